"""What the writer of recipes writes, the reader reads back as it was, over all legal values."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from evo.recipe import reader
from tests.genomes.language.test_round_trip import LOOKALIKES, texts

names = st.sampled_from([name.lower() for name in LOOKALIKES if "." not in name]) | st.from_regex(
    r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True
)
words = st.sampled_from(LOOKALIKES) | texts
lists = st.lists(words, unique=True, max_size=4).map(tuple)
shares = st.floats(0, 1)


@settings(max_examples=40, deadline=None)
@given(
    name=names,
    seed=st.integers(0, 2**62 - 1) | st.just(2**62 - 1),
    baselines=lists,
    variation=st.fixed_dictionaries(
        {"crossover": shares, "weights": st.dictionaries(words, st.floats(0, 1e6), max_size=4)}
    ),
    start=st.fixed_dictionaries({"catalogue": lists, "genomes": lists}),
    limits=st.fixed_dictionaries({"seconds_per_lane": st.floats(1, 1e6)}),
)
def test_a_recipe_is_read_as_it_was_written(variation, start, limits, **top):
    base = reader.named("any")
    sections = {"variation": variation, "start": start, "limits": limits}
    changed = {key: getattr(base, key).model_copy(update=update) for key, update in sections.items()}
    recipe = base.model_copy(update=top | changed)
    for comments in (False, True):
        assert reader.from_text(reader.dump(recipe, comments)) == recipe
