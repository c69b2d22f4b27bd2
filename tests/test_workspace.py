"""What is written whole: a reader finds the former content or all of the new, never a part."""

import pytest

from suite.workspace import whole_file


def test_a_file_takes_its_place_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "numbers.jsonl"
    with whole_file(path) as partial:
        partial.write_text("1\n")
        assert not path.exists()
    assert path.read_text() == "1\n"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_what_was_there_and_nothing_beside_it(tmp_path):
    path = tmp_path / "numbers.jsonl"
    path.write_text("before\n")
    with pytest.raises(OSError, match="disk full"), whole_file(path) as partial:
        partial.write_text("half")
        raise OSError("disk full")
    assert path.read_text() == "before\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    for error in (True, False):
        try:
            with whole_file(tmp_path / "export") as partial:
                partial.mkdir()
                (partial / "table").write_text("rows")
                if error:
                    raise ValueError("a table that cannot be read")
        except ValueError:
            assert list(tmp_path.iterdir()) == []
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["table"]
    assert len(list(tmp_path.iterdir())) == 1
