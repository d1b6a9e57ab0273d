import pytest

from providers import registry


def test_folders_are_found():
    assert {"openai", "openai_compatible", "simulator"} <= set(registry.names())
    assert "wire" not in registry.names()


@pytest.mark.parametrize(
    ("model", "kind"),
    [("gpt-4o-mini", "openai"), ("o3", "openai"), ("text-embedding-3-small", "openai"), ("tiny", None), ("olmo", None)],
)
def test_bare_model_names(model, kind):
    assert registry.find_model(model) == kind


def test_an_unknown_name_is_a_key_error():
    with pytest.raises(KeyError):
        registry.get("nope")
