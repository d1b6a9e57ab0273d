"""Prompts that curator sends as batches: ``curator_flow.py BASE_URL``."""

import importlib.metadata
import sys

from bespokelabs import curator

PROMPTS = 30


def main() -> None:
    llm = curator.LLM(
        model_name="lab/tiny",
        backend="openai",
        batch=True,
        backend_params={"base_url": sys.argv[1], "api_key": "unused", "batch_size": 10, "batch_check_interval": 1},
    )
    answers = llm([f"[[say=answer-{n}]]" for n in range(PROMPTS)])
    found = answers.dataset if hasattr(answers, "dataset") else answers
    assert sorted(found["response"]) == sorted(f"answer-{n}" for n in range(PROMPTS)), found["response"]


if __name__ == "__main__":
    main()
    sys.stdout.write(f"curator {importlib.metadata.version('bespokelabs-curator')}: all passed\n")
