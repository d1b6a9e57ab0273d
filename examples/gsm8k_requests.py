"""Make a batch file of GSM8K: ``python examples/gsm8k_requests.py gsm8k_test.jsonl 100 MODEL > requests.jsonl``.

The input is GSM8K's own JSONL with ``question`` and ``answer`` on each line (github.com/openai/grade-school-math, MIT).
"""

import json
import sys
from pathlib import Path

PROMPT = "Solve the problem step by step. End with a line '#### <number>'.\n\n"


def request(number: int, question: str, model: str) -> dict[str, object]:
    """One line of a batch file; the custom_id leads back to the problem."""
    return {
        "custom_id": f"gsm8k-{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": model,
            "messages": [{"role": "user", "content": PROMPT + question}],
            "max_tokens": 80,
            "temperature": 0,
        },
    }


def main(path: str, count: str, model: str) -> None:
    lines = Path(path).read_text(encoding="utf-8").splitlines()[: int(count)]
    for number, line in enumerate(lines, start=1):
        sys.stdout.write(json.dumps(request(number, json.loads(line)["question"], model)) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
