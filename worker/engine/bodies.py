"""Request bodies, read from the input file when their call is admitted."""

from collections import OrderedDict

from worker.blobs import Blob, Blobs, StoreBroken

MOST_OPEN = 64


class Bodies:
    """Keeps the files of running batches open. One read is one pread."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._open: OrderedDict[str, Blob] = OrderedDict()

    def read(self, file: str, offset: int, length: int) -> bytes:
        """Raises BlobError if the file is not there, or not whole."""
        blob = self._open.get(file)
        if blob is None:
            blob = self._open[file] = self._blobs.open(file)
            if len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)[1].close()
        else:
            self._open.move_to_end(file)
        body = blob.read(offset, length)
        if len(body) < length:
            raise StoreBroken(f"the file store has only a part of {file}")
        return body

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()
