"""Check the pages without running what they show: links, reference, made parts. Gives 1 when something is wrong."""

from __future__ import annotations

import sys

from tools import generated, make_reference, pages


def main() -> int:
    """Print what is wrong; gives the exit status."""
    wrong = [problem for page in pages.pages() for problem in pages.broken_links(page)]
    for problem in wrong:
        print(problem, file=sys.stderr)
    return make_reference.main(["--check"]) or generated.main(["--check"]) or bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
