"""What should be: files, who reads them and how, components, gates, checks.

Numbers in brackets are the rules in docs/design.md.
"""

from hardway.desired.component import Check, Component, Gate, Lead, Permission, Roll, Serving
from hardway.desired.files import Blob, Content, File, Manifest, Part, Pickup, Program, Secret, Template, Text, Use
from hardway.desired.needs import Needs
from hardway.desired.own import Own
from hardway.desired.pods import EXPIRES, MANAGED_BY, RESTRICTED, PodSettings, Toleration, container
from hardway.desired.questions import Answer, Live, Shown, Stage
from hardway.desired.trace import KINDS, Kind, Trace

__all__ = [
    "EXPIRES",
    "KINDS",
    "MANAGED_BY",
    "RESTRICTED",
    "Answer",
    "Blob",
    "Check",
    "Component",
    "Content",
    "File",
    "Gate",
    "Kind",
    "Lead",
    "Live",
    "Manifest",
    "Needs",
    "Own",
    "Part",
    "Permission",
    "Pickup",
    "PodSettings",
    "Program",
    "Roll",
    "Secret",
    "Serving",
    "Shown",
    "Stage",
    "Template",
    "Text",
    "Toleration",
    "Trace",
    "Use",
    "container",
]
