import pytest

from tests import grist
from worker import config, output_line, settings
from worker.intake import inline, line
from worker.intake.inline import Inline
from worker.intake.line import LineProblem
from worker.routes import Routes

CHAT = "/v1/chat/completions"


def take(raw: bytes, *, url: str = CHAT, may_stream: bool = True) -> Inline:
    routes = Routes(config.parse("providers: {mill: {base_url: 'http://127.0.0.1:9/v1'}}"), settings.load())
    return inline.take(routes.resolve, lambda route: (1, 2), url, raw, may_stream=may_stream)


def test_the_body_goes_out_as_it_was_written_and_its_model_is_found() -> None:
    raw = b' {"temperature": 1.50e-1, "model" : "mill/fl\\u006fur", "messages":[]}\n'
    found = take(raw)
    assert found.body == raw.strip() and found.job.route == grist.ROUTE and not found.streamed
    where = slice(found.job.model_offset, found.job.model_offset + found.job.model_length)
    assert found.body[where] == b'"mill/fl\\u006fur"'


def test_a_stream_is_taken_out_and_nothing_else_is_touched() -> None:
    raw = '{"stream": true, "model":"mill/flour", "stream_options":{"include_usage":true}, "é": 1.0e3, "messages": []}'
    found = take(raw.encode())
    assert (found.streamed, found.with_usage) == (True, True)
    assert found.body == b'{"model":"mill/flour","\\u00e9":1.0e3,"messages":[]}'
    where = slice(found.job.model_offset, found.job.model_offset + found.job.model_length)
    assert found.body[where] == b'"mill/flour"'


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"{}}", b'{"a":1,"a":2}', b"\xff", b'{"model": NaN}'])
def test_what_is_no_object_is_refused(raw: bytes) -> None:
    with pytest.raises(LineProblem):
        take(raw)


def test_where_nobody_can_stream_it_is_refused() -> None:
    with pytest.raises(LineProblem, match="stream"):
        take(b'{"stream": true, "model":"mill/flour", "input": "x"}', url="/v1/embeddings", may_stream=False)


@pytest.mark.parametrize("text", [b"[]", b"[ ]", b'[1.50 , {"a": [2]} ,"x,]"]', b"[ [] ]"])
def test_elements_are_cut_as_written(text: bytes) -> None:
    found = line.elements(text)
    expected = {b"[]": [], b"[ ]": [], b"[ [] ]": [b"[]"]}.get(text, [b"1.50", b'{"a": [2]}', b'"x,]"'])
    assert found == expected


@pytest.mark.parametrize("custom_id", [None, "plain", '","body":{"x"', '\\","body":'])
def test_what_a_line_says_is_read_whatever_its_custom_id(custom_id: str | None) -> None:
    body = b'{"a":"\\",\\"body\\":","n":1.50,"body":{}}'
    said = output_line.read(output_line.answered(7, custom_id, 429, 'r","body":', body))
    assert (said.status_code, said.request_id, said.body, said.code) == (429, 'r","body":', body, None)
    ended = output_line.read(output_line.not_executed(7, custom_id, "batch_expired", "Too late."))
    assert ended.code == "batch_expired" and b"Too late." in ended.body
