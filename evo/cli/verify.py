"""What ``evo verify`` prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evo.campaign.folder import RunFolder
from evo.campaign.status import has_progress
from evo.errors import UsageError
from evo.formatting import command
from evo.ledger import backup
from evo.ledger.audit import Audit, Damage
from evo.ledger.errors import DamagedError
from evo.ledger.ledger import Ledger


def print_verification(run: Path, *, as_json: bool) -> bool:
    """Check the ledger of a campaign and its copies, and print what is sound and what is not; whether all is."""
    folder = RunFolder.find(run)
    if not has_progress(folder):
        raise UsageError(f"{folder.path}: nothing to verify; begin with: {command('launch', folder.path)}")
    copies = [copy for copy in backup.copies(folder.ledger) if copy.is_file()]
    audits = [_audit(path) for path in (folder.ledger, *copies)]
    sound = all(audit.sound for audit in audits)
    if as_json:
        print(json.dumps({"run": str(folder.path), "sound": sound, "files": [audit.to_dict() for audit in audits]}))
    else:
        print("\n".join(line for audit in audits for line in _lines(audit)))
        if not audits[0].sound:
            print(f"{command('resume', folder.path)} keeps what is sound, and the damaged file beside it")
    return sound


def _audit(path: Path) -> Audit:
    if not path.is_file():
        return Audit(path, damage=(Damage("", {}, "it is gone"),))
    try:
        with Ledger.open_to_read(path) as ledger:
            return ledger.audit()
    except DamagedError as error:
        return Audit(path, damage=(Damage("", {}, str(error).removeprefix(f"{path}: damaged: ")),))


def _lines(audit: Audit) -> list[str]:
    rows: dict[str, Any] = {name: number for name, number in audit.rows.items() if number}
    held = ", ".join(f"{number} {name}" for name, number in rows.items()) or "nothing that can be read"
    verdict = "sound" if audit.sound else "damaged"
    lines = [f"{audit.path}: {verdict}; sound rows: {held}; complete generations: {audit.generations}"]
    return lines + [f"  damaged: {damage}" for damage in audit.damage]
