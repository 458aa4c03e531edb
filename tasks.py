"""The verbs of ./inv, group by group: a table of contents, no logic."""

from hardway.verbs import develop, inventory
from hardway.verbs.cli import Cli

CONTENTS = {
    "What it is made of": {
        "inventory.schema": inventory.schema,
    },
    "This repository": {
        "check": develop.check,
        "test": develop.test,
    },
}

if __name__ == "__main__":
    Cli(CONTENTS, version="0.1.0").run()
