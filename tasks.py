"""The verbs of ./inv, group by group: a table of contents, no logic."""

from hardway.verbs import (
    binaries,
    certs,
    develop,
    etcd,
    hosts,
    inventory,
    kubeconfig,
    kubectl,
    lab,
    leaving,
    preflight,
    push,
    restart,
    rotate,
    smoke,
    state,
    status,
    traffic,
    up,
)
from hardway.verbs.program.cli import Cli

CONTENTS = {
    "The cluster": {
        "up": up.up,
        "preflight": preflight.preflight,
        "plan": push.plan,
        "push": push.push,
        "status": status.status,
        "smoke": smoke.smoke,
        "traffic": traffic.traffic,
        "restart": restart.restart,
        "kubectl": kubectl.kubectl,
        "etcd.snapshot": etcd.snapshot,
        "etcd.restore": etcd.restore,
        "etcd.revert": etcd.revert,
        "etcd.rejoin": etcd.rejoin,
        "certs": certs.certs,
        "certs.renew": certs.renew,
        "rotate.authority": rotate.authority,
        "rotate.service-account-key": rotate.service_account_key,
        "rotate.encryption-key": rotate.encryption_key,
        "rotate.all": rotate.everything,
        "kubeconfig": kubeconfig.kubeconfig,
        "worker.remove": leaving.remove,
        "reset": leaving.reset,
    },
    "What it is made of": {
        "render": push.render,
        "binaries": binaries.binaries,
        "inventory.schema": inventory.schema,
    },
    "What is kept of it": {
        "state.backup": state.backup,
        "state.restore": state.restore,
        "state.recover": state.recover,
        "state.seal": state.seal,
        "state.unseal": state.unseal,
        "state.authority": state.authority,
    },
    "Its hosts": {
        "hosts.trust": hosts.trust,
        "lab.up": lab.up,
        "lab.down": lab.down,
        "lab.ssh": lab.ssh,
        "lab.status": lab.status,
    },
    "This repository": {
        "check": develop.check,
        "test": develop.test,
    },
}

if __name__ == "__main__":
    Cli(CONTENTS, version="0.1.0").run()
