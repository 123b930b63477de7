"""Notes what the shipped genomes are: ``python -m tests.genomes.identities`` writes ``tests/golden/identities.json``.

For each genome the digest of its canonical text, without source and oracle, and its identity. A ledger files trainings
under identities, and keeps texts. So a new word, a new key or a change of the compiler leaves all of them as they are.
Write the file anew

- for a genome that is new, gone or edited;
- for a change of what genomes compute: raise ``NUMERICS_VERSION`` (``harness/result.py``) with it;
- for another identity or text of what computes the same (a rule of simplification, the canonical order, ``dump``):
  older ledgers then miss their trainings, so raise their version (``evo/ledger/schema.py``) with it, and say why there.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from genomes import catalogue
from genomes.compiler.canonical import canonical
from genomes.compiler.identity import genome_identity
from genomes.language.genome import Genome, dump

PATH = Path(__file__).parents[1] / "golden" / "identities.json"


def note(genome: Genome) -> dict[str, str]:
    """What the file says of a genome."""
    text = dump(replace(canonical(genome), source="", oracle=""))
    return {"canonical": hashlib.sha256(text.encode()).hexdigest(), "identity": genome_identity(genome)}


def noted() -> dict[str, dict[str, str]]:
    """The file: for each name its note."""
    return json.loads(PATH.read_text(encoding="utf-8"))


def main() -> None:
    """Write the file; says which genomes are no longer what they were."""
    before = noted() if PATH.is_file() else {}
    notes = {name: note(catalogue.load(name)) for name in sorted(catalogue.all_names())}
    changed = [name for name in sorted({*before, *notes}) if before.get(name) != notes.get(name)]
    PATH.write_text(json.dumps(notes, indent=1) + "\n", encoding="utf-8")
    print(f"{PATH.name}: {len(notes)} genomes, {len(changed)} changed: {', '.join(changed) or 'none'}")


if __name__ == "__main__":
    main()
