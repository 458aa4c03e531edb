"""The verbs of ./inv, group by group: a table of contents, no logic."""

from hardway.verbs import develop, inventory, kubectl, push, smoke, up
from hardway.verbs.cli import Cli

CONTENTS = {
    "The cluster": {
        "up": up.up,
        "plan": push.plan,
        "push": push.push,
        "smoke": smoke.smoke,
        "kubectl": kubectl.kubectl,
    },
    "What it is made of": {
        "render": push.render,
        "inventory.schema": inventory.schema,
    },
    "This repository": {
        "check": develop.check,
        "test": develop.test,
    },
}

if __name__ == "__main__":
    Cli(CONTENTS, version="0.1.0").run()
