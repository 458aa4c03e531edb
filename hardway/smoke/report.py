"""What a run of checks has found, and its forms for machines: JSON and JUnit XML."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Literal
from xml.etree import ElementTree as ET

Status = Literal["passed", "failed", "skipped"]

# What XML 1.0 has no form for, not even escaped.
_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one check ended."""

    name: str
    component: str
    proves: str
    status: Status
    reason: str = ""  # why it failed or was skipped
    evidence: str = ""  # commands or requests, and their answers
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How a run ended."""

    cluster: str
    started: str  # RFC 3339
    seconds: float
    checks: tuple[Result, ...]
    left: tuple[str, ...] = ()  # what could not be removed from the cluster

    @property
    def green(self) -> bool:
        """Nothing failed and nothing was left behind."""
        return not self.left and all(result.status != "failed" for result in self.checks)

    @property
    def counts(self) -> Counter[str]:
        return Counter(result.status for result in self.checks)

    @property
    def document(self) -> dict[str, Any]:
        """As `--json` writes it."""
        return {
            "schema": 1,
            "cluster": self.cluster,
            "started": self.started,
            "seconds": self.seconds,
            "checks": [asdict(result) for result in self.checks],
        }

    @property
    def junit(self) -> str:
        """As `--junit` writes it: one suite, one case a check."""
        counts = self.counts
        suite = ET.Element(
            "testsuite",
            name=f"smoke {self.cluster}",
            tests=str(len(self.checks)),
            failures=str(counts["failed"]),
            errors="0",
            skipped=str(counts["skipped"]),
            time=f"{self.seconds:.3f}",
            timestamp=self.started,
        )
        for result in self.checks:
            case = ET.SubElement(suite, "testcase", classname=result.component, name=result.name, time=f"{result.seconds:.3f}")
            if result.status == "failed":
                ET.SubElement(case, "failure", message=_xml(result.reason.partition("\n")[0])).text = _xml(result.reason)
            if result.status == "skipped":
                ET.SubElement(case, "skipped", message=_xml(result.reason))
            ET.SubElement(case, "system-out").text = _xml(f"{result.proves}\n{result.evidence}")
        suites = ET.Element("testsuites")
        suites.append(suite)
        ET.indent(suites)
        return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _xml(text: str) -> str:
    return _NO_XML.sub("?", text)
