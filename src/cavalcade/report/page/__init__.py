"""A page that opens by a double click: static files, and parts that are loaded when they are seen.

Browsers let a page from a file load scripts, but not fetch data. So each part is a script that
hands its content to the page, numbers as compressed bytes.
"""

import base64
import json
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import plotly

ROUNDED_BY, NO_NUMBER = 1000, -(2**15)
STATIC, SCRIPTS = ("index.html", "report.css"), "scripts"
PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


class Page:
    """Writes the folder of a page.

    Attributes:
        folder: which is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "parts").mkdir(parents=True)
        here = Path(__file__).parent
        for path in (*(here / name for name in STATIC), PLOTLY):
            shutil.copyfile(path, folder / path.name)
        shutil.copytree(here / SCRIPTS, folder / SCRIPTS)

    def add_part(self, name: str, content: Mapping[str, Any]) -> None:
        """Write what the page asks for by a name.

        Args:
            name: of letters, digits and dashes.
            content: plain values and arrays; NaN becomes null outside of arrays.
        """
        text = json.dumps(_plain(content), allow_nan=False, separators=(",", ":"))
        script = f"report.receive({json.dumps(name)},{text})\n"
        (self.folder / "parts" / f"{name}.js").write_text(script, encoding="utf-8")


@dataclass(frozen=True)
class Rounded:
    """Numbers of a size up to 32, written with the three decimals that are shown.

    One more would be rounded twice: 0.02149 to 0.0215, and that to 0.022.
    """

    values: np.ndarray


def written_size(array: np.ndarray) -> int:
    """Bytes that an array takes in a part."""
    return len(_packed(array)["packed"])


def picture(jpeg: bytes) -> str:
    """A picture as part of a page, which may not read the pixels of files."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _plain(value: Any) -> Any:  # noqa: ANN401
    """What JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, Rounded):
        return _rounded(value.values)
    if isinstance(value, np.ndarray):
        return _packed(value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _packed(array: np.ndarray) -> dict[str, Any]:
    """An array as the page unpacks it, deflated: floats as float32, others by what they need."""
    kind = "float32" if array.dtype.kind == "f" else _smallest(array)
    content = np.ascontiguousarray(array, dtype=f"<{np.dtype(kind).str[1:]}").tobytes()
    return {"packed": _compressed(content), "type": kind, "shape": list(array.shape)}


def _smallest(array: np.ndarray) -> str:
    """The type of fewest bytes that holds some whole numbers."""
    least, most = (int(array.min()), int(array.max())) if array.size else (0, 0)
    if least >= 0 and most < 2**16:
        return "uint8" if most < 2**8 else "uint16"
    if least >= -(2**31) and most < 2**31:
        return "int32"
    raise ValueError(f"the page has no whole numbers from {least} to {most}")


def _rounded(array: np.ndarray) -> dict[str, Any]:
    """Thousandths as two bytes, the lower ones first; the least number is NaN."""
    whole = np.where(np.isfinite(array), np.rint(array * ROUNDED_BY), NO_NUMBER)
    planes = whole.clip(NO_NUMBER, -NO_NUMBER - 1).astype("<i2").view(np.uint8).reshape(-1, 2).T
    return {"packed": _compressed(planes.tobytes()), "type": "rounded", "shape": list(array.shape)}


def _compressed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 9)).decode()
