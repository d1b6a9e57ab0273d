"""lm-eval's model for local chat servers, unmodified: a run that is killed in the middle and started again."""

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from providers.simulator.process import Process
from tests.clients import environments
from tests.polling import until

SAMPLES, AT_ONCE = 40, 4
TASK = {
    "task": "mill",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "samples.jsonl"}},
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["\n\n"]},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_was_answered_before_the_kill_is_not_asked_again(
    simulator: Process, tmp_path: Path, base_url: str
) -> None:
    """By its own cache: the answers of calls that were in flight at the kill are all that is bought twice."""
    python = environments.python(tmp_path / "environment", "lm-eval[api]")
    simulator.reset()
    command = prepared(python.with_name("lm_eval"), tmp_path, base_url)
    surroundings = {"HF_HUB_OFFLINE": "1", "OPENAI_API_KEY": "unused", "HOME": str(tmp_path)}
    with (
        (tmp_path / "killed.log").open("wb") as log,
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environments.plain() | surroundings,
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as killed,
    ):
        until(lambda: killed.poll() is not None or simulator.stats()["answered"] >= SAMPLES // 2, 300)
        assert killed.poll() is None, (tmp_path / "killed.log").read_text()
        killed.send_signal(signal.SIGKILL)
    environments.run(*command, cwd=tmp_path, **surroundings)
    [found] = (tmp_path / "results").rglob("results_*.json")
    results: dict[str, Any] = json.loads(found.read_text())["results"]["mill"]
    assert results["exact_match,none"] == 1
    stats = simulator.stats()
    assert (stats["nonces"], stats["unanswered"]) == (SAMPLES, 0)
    assert stats["accepted"] <= SAMPLES + 2 * AT_ONCE


def prepared(lm_eval: Path, folder: Path, base_url: str) -> list[str]:
    """The task's files, and the command that runs it."""
    (folder / "mill.yaml").write_text(yaml.safe_dump(TASK))
    samples = (
        {"question": f'[[delay=0.3]] [[say="answer {n}"]] nonce:lm-{n}', "answer": f"answer {n}"}
        for n in range(SAMPLES)
    )
    (folder / "samples.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    model = f"model=lab/tiny,base_url={base_url}/chat/completions,num_concurrent={AT_ONCE}"
    command = [str(lm_eval), "run", "--model", "local-chat-completions", "--model_args", model, "--tasks", "mill"]
    return [
        *command,
        "--include_path",
        ".",
        "--apply_chat_template",
        "--use_cache",
        "cache",
        "--output_path",
        "results",
    ]
