"""What config/security/policy.xml lets a node say and hear."""

from xml.etree import ElementTree

from arm_launch import ROOT

POLICY = ElementTree.parse(ROOT / "config" / "security" / "policy.xml").getroot()
KINDS = {
    "publishes": ("topics", "publish"),
    "hears": ("topics", "subscribe"),
    "answers": ("services", "reply"),
    "asks": ("services", "request"),
    "executes": ("actions", "execute"),
    "calls": ("actions", "call"),
}


def allowed(name: str) -> dict[str, set[str]]:
    """What the policy allows a node, as full names, by KINDS."""
    profile = POLICY.find(f"enclaves/enclave/profiles/profile[@node='{name}']")
    assert profile is not None, f"the policy knows no {name}"
    out = {}
    for kind, (group, verb) in KINDS.items():
        found = [e.text or "" for part in profile.findall(f"{group}[@{verb}='ALLOW']") for e in part]
        out[kind] = {f"/{name}{text[1:]}" if text.startswith("~/") else f"/{text}" for text in found}
    return out
