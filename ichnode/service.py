"""The systemd unit that runs the node: the template beside this file, filled in; and telling systemd what goes on."""

import os
import re
import socket
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

UNIT = Path("/etc/systemd/system/ichnode.service")
_HIDDEN = ("/home", "/root", "/run/user")  # by ProtectHome
_PLAIN = re.compile(r"/[\w./+@:,=-]*")  # what needs no quotes in a unit
_USER = re.compile(r"[a-z_][a-z0-9_-]*")
_NO_DEVICES = "PrivateDevices=yes"
_GPUS = "DevicePolicy=closed\nDeviceAllow=char-nvidia* rw"


def problems_of(*, paths: Sequence[Path], user: str) -> list[str]:
    """Why a unit that names these would not start."""
    problems = [] if _USER.fullmatch(user) else [f"{user!r} is no name of a system user"]
    for path in paths:
        if not path.is_absolute():
            problems.append(f"{path} is relative; a service needs the whole path")
        elif not _PLAIN.fullmatch(str(path)):
            problems.append(f"{path} has characters that a systemd unit would need quoted")
        elif any(path.is_relative_to(hidden) for hidden in _HIDDEN):
            problems.append(f"{path} lies below a home folder, which the service cannot see")
    return problems


def unit_text(
    *,
    executable: Path,
    config: Path,
    data_dir: Path,
    writable: Sequence[Path],
    user: str,
    ports: Sequence[int],
    gpu: bool,
) -> str:
    """The unit. `writable`: folders beside `data_dir`; one of `ports` below 1024 gives the right to listen there."""
    low_port = any(0 < port < 1024 for port in ports)
    template = Template(files("ichnode").joinpath("ichnode.service").read_text("utf-8"))
    return template.substitute(
        ichnode=executable,
        config=config,
        data_dir=data_dir,
        writable=" ".join(str(folder) for folder in dict.fromkeys((data_dir, *writable))),
        user=user,
        capabilities="CAP_NET_BIND_SERVICE" if low_port else "",
        private_users="no" if low_port else "yes",  # such a right counts only among the users of the machine
        devices=_GPUS if gpu else _NO_DEVICES,
    )


def tell_systemd(state: str) -> None:
    """Say "READY=1" or "STOPPING=1" (sd_notify(3)) where systemd started the node as Type=notify; else nothing."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to_systemd:
            to_systemd.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
