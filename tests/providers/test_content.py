import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import content


@given(st.binary(max_size=2000), st.sampled_from([("gzip", gzip.compress), ("deflate", zlib.compress), ("", bytes)]))
def test_any_cut_of_chunks_gives_the_same_body(body, coding):
    name, pack = coding
    decoder, packed = content.Decoder(name, 2000), pack(body)
    chunks = [packed[start : start + 7] for start in range(0, len(packed), 7)]
    assert b"".join(decoder.decode(chunk) for chunk in chunks) == body
    decoder.finish()


def test_the_cap_itself_still_fits():
    assert content.Decoder("", 10).decode(b"x" * 10)
    with pytest.raises(content.TooLargeError):
        content.Decoder("", 10).decode(b"x" * 11)


def test_a_bomb_never_grows_past_the_cap():
    decoder = content.Decoder("gzip", 1000)
    with pytest.raises(content.TooLargeError):
        decoder.decode(gzip.compress(b"0" * 10_000_000))


@given(st.binary(min_size=1))
def test_garbage_is_unreadable_and_nothing_else(garbage):
    decoder = content.Decoder("gzip", 1000)
    try:
        decoder.decode(garbage)
        decoder.finish()
    except (content.UnreadableError, content.TooLargeError):
        pass
