"""Makes the wheel: the package and libqwentts.so, for any Python 3 of one platform. A build backend (PEP 517) of the standard
library alone: setuptools would bring nothing but a download, since there is nothing to compile.

The library is the one that QWENTTS_LIBRARY names, else the tree's target/release; the wheel has its version.
"""

import base64
import ctypes
import hashlib
import os
import re
import sysconfig
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

METADATA = """Metadata-Version: 2.1
Name: qwentts
Version: {version}
Summary: Text to speech with the Qwen3-TTS 12 Hz models: exact, streaming, no torch
License: MIT OR Apache-2.0
Requires-Python: >=3.9
Provides-Extra: numpy
Requires-Dist: numpy; extra == "numpy"
Provides-Extra: play
Requires-Dist: sounddevice; extra == "play"
Description-Content-Type: text/plain

{description}
"""

WHEEL = """Wheel-Version: 1.0
Generator: qwentts
Root-Is-Purelib: false
Tag: {tag}
"""


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    library = _library()
    ask = ctypes.CDLL(str(library)).qwentts_version
    ask.restype = ctypes.c_char_p
    version = ask().decode()
    tag = f"py3-none-{_platform(library)}"
    info = f"qwentts-{version}.dist-info"
    description = (HERE / "qwentts" / "__init__.py").read_text("utf-8").split('"""')[1]
    files = {f"qwentts/{path.name}": path.read_bytes() for path in sorted((HERE / "qwentts").glob("*.py"))}
    files["qwentts/py.typed"] = b""
    files[f"qwentts/{library.name}"] = library.read_bytes()
    files.update({f"{info}/{path.name}": path.read_bytes() for path in sorted(ROOT.glob("LICENSE-*"))})
    files[f"{info}/METADATA"] = METADATA.format(version=version, description=description).encode()
    files[f"{info}/WHEEL"] = WHEEL.format(tag=tag).encode()
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    name = f"qwentts-{version}-{tag}.whl"
    with zipfile.ZipFile(Path(wheel_directory) / name, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, data in files.items():
            # Its own fixed date: the same library gives the same wheel.
            entry = zipfile.ZipInfo(path)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            wheel.writestr(entry, data)
    return name


def build_sdist(sdist_directory, config_settings=None):
    raise SystemExit("qwentts: has no source distribution, since cargo builds the library; pip wheel makes a wheel")


def _library():
    named = os.environ.get("QWENTTS_LIBRARY")
    library = Path(named).absolute() if named else ROOT / "target" / "release" / "libqwentts.so"
    if not library.exists():
        raise SystemExit(f"qwentts: {library} is not there: cargo build --release makes it, QWENTTS_LIBRARY names one")
    return library


def _platform(library):
    """On Linux by the oldest glibc that has all which the library asks for, so that pip does not put it where it cannot load."""
    platform = re.sub(r"[-.]", "_", sysconfig.get_platform())
    versions = re.findall(rb"\0GLIBC_2\.(\d+)", library.read_bytes())
    if platform.startswith("linux_") and versions:
        return platform.replace("linux", f"manylinux_2_{max(map(int, versions))}", 1)
    return platform


def _digest(data):
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
