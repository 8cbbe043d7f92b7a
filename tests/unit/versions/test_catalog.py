"""What is said of models: all of a card for one model, no tables in the list of all."""

import json

import tiny

from serving.repository.layout import scan
from serving.versions.catalog import describe

TABLE = {"columns": ["class", "f1"], "rows": [["red", 0.5]]}


def test_a_card_has_tables_and_the_list_of_all_models_has_none(tmp_path):
    file = tiny.add_classifier(tmp_path) / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tables": {"per_class": TABLE}}))
    listing = describe(scan(tmp_path), {}, {})
    (full,), (brief,) = listing.models, listing.without_tables().models
    assert full.card["tables"]["per_class"] == TABLE
    assert "tables" not in brief.card
    assert brief.card == {name: part for name, part in full.card.items() if name != "tables"}


def test_a_card_says_which_graphs_there_are_where_there_are_several(tmp_path):
    tiny.add_classifier(tmp_path)
    tiny.add_two_graphs(tmp_path)
    one, several = describe(scan(tmp_path), {}, {}).models
    assert "graphs" not in one.card
    assert several.card["graphs"] == {"model": "pair.decoder", "encoder": "pair.encoder"}
    assert set(several.card["graph_files"]) == {"pair.decoder", "pair.encoder"}


def test_a_plain_triton_model_has_no_card_in_either(tmp_path):
    file = tiny.add_classifier(tmp_path) / "manifest.json"
    file.unlink()
    for model in describe(scan(tmp_path), {}, {}).without_tables().models:
        assert model.card is None
