"""The list of families, for people."""

from exporters.catalogue import Entry, as_text

ENTRIES = [
    Entry("cnn", "classify", "cnn", 0.9, 0.95123, 34.4, 1_234_567, "accuracy", higher_is_better=True),
    Entry("a-long-family-name", "joint-embed", "m", 0.2, 0.1, 5, 20_000, "error", higher_is_better=False),
    Entry("vit", "classify", "vit", 0.8, None, None, None, "accuracy", higher_is_better=True),
]


def test_columns_stand_below_their_heads():
    head, *lines = as_text(ENTRIES).splitlines()
    for name in ("TASK", "METRIC", "FLOOR", "REACHED", "SECONDS", "MB"):
        place = head.index(name)
        assert all(line[place] != " " and line[place - 1] == " " for line in lines), name


def test_a_line_says_what_was_reached_of_what():
    assert as_text(ENTRIES).splitlines()[1].split()[3:] == ["accuracy", "0.90", "0.9512", "34", "1.23"]


def test_a_metric_that_should_be_low_has_a_highest_value():
    assert as_text(ENTRIES).splitlines()[2].split()[3:7] == ["error", "<=", "0.20", "0.1000"]


def test_what_is_not_published_has_no_figures():
    assert as_text(ENTRIES).splitlines()[3].split()[5:] == ["-", "-", "-"]
