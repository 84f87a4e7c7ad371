"""Images without a registry and without a distribution: some of this machine's programs, and what they link to."""

from __future__ import annotations

import io
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.dockerd import give_up
from tests.servers import require_program

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.dockerd import Engine

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Of the standard library, what no model server here imports.
LEFT_OUT = {
    "test",
    "site-packages",
    "dist-packages",
    "idlelib",
    "tkinter",
    "ensurepip",
    "lib2to3",
    "__pycache__",
    "turtledemo",
    "pydoc_data",
}
ROUTER = "haproxy-standin"
SERVER = "model-server-standin"

# Serves what lies in the folder: `broken` in it answers 500, `crash` ends at once, `warm` has the seconds for which
# it answers 503. POST answers after as many seconds as it is told. SIGTERM ends it in the middle of all that it does, as a careless server does.
SERVER_PROGRAM = """
import http.server, os, pathlib, signal, sys, time
model = pathlib.Path(os.environ.get("MODEL_FOLDER", "/opt/ml/model"))
if (model / "crash").exists():
    sys.exit("the model cannot be loaded")
warm = time.monotonic() + float((model / "warm").read_text() if (model / "warm").exists() else 0)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, status, content):
        self.send_response(status)
        self.send_header("X-Release-Id", os.environ["HYBRID_RELEASE_ID"])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    @property
    def status(self):
        return 500 if (model / "broken").exists() else 503 if time.monotonic() < warm else 200
    def do_GET(self):
        self.answer(self.status, os.environ.get("GREETING", "").encode())
    def do_POST(self):
        seconds = float(self.rfile.read(int(self.headers["Content-Length"])) or 0)
        time.sleep(seconds)
        self.answer(self.status, (model / "answer").read_bytes())
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server(("", int(os.environ.get("PORT", "8080"))), Handler).serve_forever()
"""


def build_router(engine: Engine) -> None:
    """HAProxy and nothing else: there is no shell in it."""
    haproxy = require_program("haproxy", "haproxy")
    import_image(engine, ROUTER, [Path(haproxy)], {}, f"ENV PATH={PATH}")


def build_server(engine: Engine) -> None:
    """A model server on Python's own, with a shell for command probes."""
    busybox = Path(require_program("busybox", "busybox-static"))
    python = Path(sys._base_executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    files = {
        f"{library}/{file.relative_to(library)}": file
        for file in library.rglob("*")
        if file.suffix in {".py", ".so"} and not LEFT_OUT & set(file.relative_to(library).parts)
    }
    files |= {"/bin/sh": busybox, "/bin/sleep": busybox, "/bin/cat": busybox, "/bin/wget": busybox}
    command = f'CMD ["{python}", "/server.py"]'
    import_image(
        engine, SERVER, [python], files | {"/server.py": SERVER_PROGRAM.encode()}, command, f"ENV PATH={PATH}"
    )


def import_image(
    engine: Engine, name: str, programs: Iterable[Path], files: Mapping[str, Path | bytes], *changes: str
) -> None:
    """Make an image of programs, the libraries that they link to, and further files."""
    packed = dict(files)
    loaded = [path for path in files.values() if isinstance(path, Path) and path.suffix == ".so"]
    for program in (*programs, *loaded):
        packed |= {str(path): path for path in (program, *libraries(program))}
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", dereference=True) as archive:
        tmp = tarfile.TarInfo("tmp")
        tmp.type, tmp.mode = tarfile.DIRTYPE, 0o1777
        archive.addfile(tmp)
        for path, source in packed.items():
            if isinstance(source, Path):
                archive.add(source.resolve(), path.removeprefix("/"))
            else:
                member = tarfile.TarInfo(path.removeprefix("/"))
                member.size, member.mode = len(source), 0o644
                archive.addfile(member, io.BytesIO(source))
    options = [word for change in changes for word in ("--change", change)]
    done = subprocess.run(
        ["docker", "import", *options, "-", name],
        env=engine.environment,
        input=content.getvalue(),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        give_up(f"docker import of {name} ended with {done.returncode}: {done.stderr.decode()}")


def libraries(program: Path) -> set[Path]:
    """What the dynamic linker loads for a program."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    words = (word for line in listed.splitlines() for word in line.split())
    return {Path(word) for word in words if word.startswith("/")}
