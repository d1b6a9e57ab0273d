"""``python -m bench``: measures cases, prints a row for each run, and writes docs/benchmarks.md with its plot."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from bench import cases, peer, report
from bench.case import Case
from bench.loadmock import Loadmock
from bench.result import Book
from bench.server import ROOT, Kind, ServerError
from bench.simulator import Simulator
from bench.suite import Suite


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if every aim was met, 1 if not, 2 if the question was wrong."""
    options = _parser().parse_args(arguments)
    if options.list:
        print("\n".join(f"{case.name:20} {case.title}" for case in cases.every()))
        return 0
    suite = Suite(
        kind=options.server,
        runs=options.runs,
        peer_runs=options.peer_runs,
        peers=options.peers,
        lines=options.lines,
        say=lambda line: print(line, flush=True),
    )
    book = None if options.lines and not options.out else Book(options.out or ROOT / "docs")
    try:
        met = [_measure(suite, case, book) for case in _chosen(options)]
    except ServerError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"\n{sum(met)} of {len(met)} cases met all their aims")
    return 0 if all(met) else 1


def _measure(suite: Suite, case: Case, book: Book | None) -> bool:
    result = suite.measure(case)
    for aim, verdict in result.verdicts.items():
        print(f"  {aim}: {verdict}")
    print("  PASS" if result.is_met else "  FAIL", flush=True)
    if book is not None:
        report.write(book.folder, book.write(*suite.results))
    return result.is_met


def _chosen(options: argparse.Namespace) -> list[Case]:
    if options.case:
        return [case for case in cases.every() if case.name in options.case]
    return [case for case in cases.every() if options.slow or not case.is_slow]


def _leave(number: int, frame: FrameType | None) -> None:
    """Not at once: whatever was started is ended first."""
    sys.exit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    names = [case.name for case in cases.every()]
    parser.add_argument("--case", action="append", choices=names, metavar="NAME", help="only this one; may be repeated")
    parser.add_argument("--list", action="store_true", help="show the cases")
    parser.add_argument("--runs", type=int, default=3, help="of Gristmill in each case (3); figures are medians")
    parser.add_argument("--peer-runs", type=int, default=1, help="of each peer in each case (1)")
    parser.add_argument(
        "--peers", type=_peers, default=None, metavar="NAMES", help=f"none, or some of {', '.join(peer.PROGRAMS)}"
    )
    parser.add_argument("--lines", type=int, help="fewer lines, for a quick look; nothing is written then")
    parser.add_argument("--server", type=_server, default=Simulator(), help="simulator, or loadmock=PROGRAM")
    parser.add_argument("--slow", action="store_true", help="the slow cases as well")
    parser.add_argument("--out", type=Path, help="where the results are written (docs)")
    return parser


def _peers(text: str) -> tuple[str, ...]:
    names = () if text == "none" else tuple(text.split(","))
    if unknown := set(names) - set(peer.PROGRAMS):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(peer.PROGRAMS)}")
    return names


def _server(text: str) -> Kind:
    name, _, program = text.partition("=")
    if text == "simulator":
        return Simulator()
    if name != "loadmock" or not Path(program).is_file():
        raise argparse.ArgumentTypeError("say simulator, or loadmock=PROGRAM with the path of a program")
    return Loadmock(Path(program).resolve())


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _leave)
    sys.exit(main())
