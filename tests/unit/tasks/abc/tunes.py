"""Tunes made for the tests."""

from __future__ import annotations

REEL = """X: 1
T:The Anvil
% made for a test
M:4/4
L:1/8
R:Reel
K:D
P:A
FG|"D"A2d2 f>ed2|"G"BGBd "A7"c2(3ABc|"D"d2[fa]2 {e}d2cB|[1"A7"A2E2 "D"D2FG:|[2"A7"A2E2 D4||
P:B
|:"D"fafd f2a2|"G"g3f "A"e2ce|"D"~f4- f2ed|"A"(cBA)=c "D"d4:|
"""
JIG = """X:2
T:The Bellows
M:6/8
K:Am
e|"Am"cBA ABc|"E"B^GB e3|"Am"a2g e2d|c3 A2:|
K:C
|:g|"C"c2e gec|
M:9/8
"G"BAB d2B GAB|
M:6/8
"C"c3 c2:|
"""


def tune(music: str, *, metre: str = "4/4", unit: str = "1/8", key: str = "C") -> str:
    """Return a tune of this music."""
    return f"X:1\nT:A test\nM:{metre}\nL:{unit}\nK:{key}\n{music}\n"
