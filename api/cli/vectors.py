"""Embeddings of a batch as one ``.npy`` array, which numpy and much else reads."""

import array
import base64
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from api import schemas
from api.cli import client as client_module
from api.cli import faults, outputs
from api.cli.client import Client


def write(client: Client, batch: schemas.Batch, out: Path) -> None:
    """float32, rows in input order; ``OUT.ids.json`` lists the custom_id of each row. Raises UsageFault."""
    with outputs.writing(out.parent), tempfile.TemporaryFile(dir=out.parent) as file:
        ids, width = _spool(client, batch, file)
        if not ids:
            raise faults.UsageFault(f"{batch.id} has no embeddings.")
        file.seek(0)
        outputs.replace(out.with_name(f"{out.name}.ids.json"), [json.dumps(ids).encode() + b"\n"])
        outputs.replace(out, _npy(file, len(ids), width))


def _spool(client: Client, batch: schemas.Batch, file: IO[bytes]) -> tuple[list[str | None], int]:
    ids: list[str | None] = []
    width = 0
    with client.content(batch.output_file_id or batch.gristmill.output_file_id) as chunks:
        for line in client_module.lines(chunks):
            answer = json.loads(line)
            for vector in _vectors((answer.get("response") or {}).get("body") or {}):
                if width not in (0, len(vector)):
                    raise faults.UsageFault(
                        f"{answer['custom_id']!r} has a vector of {len(vector)} numbers, others have {width}: "
                        "one array cannot hold the embeddings of different models."
                    )
                width = len(vector)
                file.write(vector.tobytes())
                ids.append(answer["custom_id"])
    return ids, width


def _vectors(body: dict[str, Any]) -> Iterator["array.array[float]"]:
    """A line with several inputs has a vector of each, in order."""
    found = body.get("data")
    for item in sorted(found, key=lambda item: item.get("index", 0)) if isinstance(found, list) else ():
        value = item["embedding"]
        vector = array.array("f")
        if isinstance(value, str):
            vector.frombytes(base64.b64decode(value))
            is_foreign = sys.byteorder == "big"
        else:
            vector.extend(value)
            is_foreign = False
        if is_foreign:
            vector.byteswap()
        yield vector


def _npy(file: IO[bytes], rows: int, width: int) -> Iterator[bytes]:
    """Format version 1.0: the head is padded to 64 bytes."""
    order = "<" if sys.byteorder == "little" else ">"
    head = f"{{'descr': '{order}f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}"
    head += " " * (-(len(head) + 11) % 64) + "\n"
    yield b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode()
    while chunk := file.read(1 << 20):
        yield chunk
