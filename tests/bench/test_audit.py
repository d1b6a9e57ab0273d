import json
from pathlib import Path

from bench import audit, lines


def _answer(number: int, content: str | None, status: int = 200) -> str:
    body = {"choices": [{"message": {"content": content}}]}
    return json.dumps({"custom_id": f"r-{number}", "response": {"status_code": status, "body": body}})


def test_each_line_needs_one_answer_with_its_own_nonce(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    rows = [
        _answer(0, "ack nonce:0."),
        _answer(1, "ack nonce:2."),
        _answer(3, ""),
        _answer(4, None, status=500),
        json.dumps({"custom_id": "r-5", "response": None}),
        _answer(0, "ack nonce:0."),
    ]
    file.write_text("\n".join(rows) + "\n")
    assert audit.audit(6, file) == audit.Account(answered=2, lost=4, empty=1, twice=1, wrong=1)


def test_what_is_no_completion_is_no_answer(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    file.write_text(json.dumps({"custom_id": "r-0", "response": {"status_code": 200, "body": {"choices": []}}}) + "\n")
    assert audit.audit(1, file).lost == 1


def test_lines_carry_their_nonce_and_take_sizes_and_models_in_turn(tmp_path: Path) -> None:
    path = lines.write(tmp_path / "in.jsonl", 4, (200, 900), "a/one", "b/two")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    lengths = [sum(len(message["content"]) for message in row["body"]["messages"]) for row in rows]
    assert lengths == [200, 900, 200, 900]
    assert [row["body"]["model"] for row in rows] == ["a/one", "b/two", "a/one", "b/two"]
    assert [audit.NONCE.search(row["body"]["messages"][-1]["content"])[1] for row in rows] == ["0", "1", "2", "3"]  # type: ignore[index]
