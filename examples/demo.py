"""The demo of every example: nodes with private shards learn one model together, compared with learning apart.

``python -m examples.demo [--example NAME] [--framework NAME] [--chain auto|geth|embedded] [--merge METHOD]
[--compression none|lossless|bf16] [--out DIR]``
"""

import sys
from dataclasses import dataclass

from examples.digits.demo import NODES, Demo, arguments, conclude, run

FRAMEWORKS = {  # by example, the default first
    "digits": ("keras", "torch"),
    "mnist": ("keras", "torch"),
    "fraud": ("keras",),
    "cancer": ("torch", "sklearn"),
    "xray": ("keras", "lightning"),
    "text": ("hf",),
}
NODES_OF = {"fraud": 4}


@dataclass(frozen=True)
class ExampleDemo(Demo):
    """That of an example whose scripts run as modules."""

    example: str = "mnist"  # type: ignore[misc]

    @property
    def command(self) -> tuple[str, ...]:
        return sys.executable, "-m", f"examples.{self.example}.{self.example}_{self.framework}"

    @property
    def nodes(self) -> list[str]:
        return [f"sl-{index + 1}" for index in range(NODES_OF.get(self.example, NODES))]


def main() -> int:
    every = tuple(dict.fromkeys(framework for many in FRAMEWORKS.values() for framework in many))
    parser = arguments("python -m examples.demo", __doc__, every)
    parser.add_argument("--example", choices=tuple(FRAMEWORKS), default="digits")
    parser.add_argument("--chain", choices=("auto", "geth", "embedded"), default="auto")
    parser.set_defaults(framework="")
    given = parser.parse_args()
    framework = given.framework or FRAMEWORKS[given.example][0]
    if framework not in FRAMEWORKS[given.example]:
        parser.error(f"the example {given.example} is there for {' and '.join(FRAMEWORKS[given.example])}")
    chosen = framework, given.chain, given.merge, given.compression, given.out.absolute()
    demo = Demo(*chosen) if given.example == "digits" else ExampleDemo(*chosen, given.example)
    return conclude(demo, lambda stop: run(demo, stop))


if __name__ == "__main__":
    sys.exit(main())
