"""The report as a file for node_exporter's textfile collector."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from hardway.certs.report import Report

Samples = Iterable[tuple[Mapping[str, str], float]]


def exposition(report: Report) -> str:
    """The text format: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format."""
    return "".join(line for name, text, samples in _metrics(report) for line in _metric(name, text, samples))


def _metrics(report: Report) -> Iterator[tuple[str, str, Samples]]:
    cluster = {"cluster": report.cluster}
    labelled = [
        (
            {
                **cluster,
                "kind": one.item.kind,
                "name": one.item.name,
                "authority": one.item.authority,
                "host": one.item.host or "",
                "path": str(one.item.path or one.item.file),
            },
            one,
        )
        for one in report.seen
    ]
    yield (
        "hardway_certificate_not_after_timestamp_seconds",
        "When a certificate, an authority or a bundle's first certificate ends.",
        [(labels, one.item.not_after.timestamp()) for labels, one in labelled if one.item.not_after],
    )
    yield (
        "hardway_certificate_on_host",
        "Whether the file on the host is the one in state/ (1) or not (0); absent where the host did not answer.",
        [(labels, float(one.on_host == "same")) for labels, one in labelled if one.on_host in {"same", "differs", "missing"}],
    )
    yield (
        "hardway_certificate_served",
        "Whether a port shows the certificate in state/ (1) or another (0); absent where it shows none.",
        [
            ({**labels, "port": str(one.wire.serving.port)}, float(one.wire.shown.serial == one.item.serial))
            for labels, one in labelled
            if one.wire and one.wire.shown
        ],
    )
    yield "hardway_certificates_wrong", "How much is wrong.", [(cluster, float(len(report.wrong)))]
    yield "hardway_certificates_unknown", "How much could not be found out.", [(cluster, float(len(report.unknown)))]
    yield "hardway_certificates_asked_timestamp_seconds", "When this was found out.", [(cluster, report.asked.timestamp())]


def _metric(name: str, text: str, samples: Samples) -> Iterator[str]:
    yield f"# HELP {name} {text}\n# TYPE {name} gauge\n"
    for labels, value in samples:
        pairs = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items())
        yield f"{name}{{{pairs}}} {value:.15g}\n"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
