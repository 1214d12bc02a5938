"""ABC music notation, read from its standard, version 2.1 (abcnotation.com/wiki/abc:standard:v2.1).

reading.py makes a tune of a text, bars.py says whether its bars are full, keys.py whether its notes
are those of its key. Section numbers in comments are the standard's.
"""
