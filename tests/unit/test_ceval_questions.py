"""C-Eval's and CMMLU's questions: the real files against a plain reading, and the sentence for every mistake."""

import csv
import io
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from checkpoints import assert_one_sentence
from hypothesis import given
from hypothesis import strategies as st

from ilmari.datasets import bundle
from ilmari.datasets.ceval import Exam, Question
from ilmari.datasets.subjects import CEVAL, CMMLU, Subject
from ilmari.errors import DataError

VAL = "id,question,A,B,C,D,answer\n0,法律是什么？,甲,乙,丙,丁,B\n"
TEST = "id,question,A,B,C,D\n7,谁?,a,b,c,d\n"
DEV = 'id,question,A,B,C,D,answer,explanation\n0,"多\n行",1,2,3,4,D,"因为, 对"\n'
ARTS = ",Question,A,B,C,D,Answer\n0,画家是谁,甲,乙,丙,丁,C\n"

CEVAL_FILES = {"dev/law_dev.csv": DEV, "val/law_val.csv": VAL, "val/logic_val.csv": VAL, "test/law_test.csv": TEST}
CMMLU_FILES = {"dev/arts.csv": ARTS, "test/arts.csv": ARTS, "test/anatomy.csv": ARTS}


def folder(path: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def archive(path: Path, files: dict[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    with zipfile.ZipFile(path, "w", method) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return path


def refusal(path: Path, split: str = "val", subject: str | None = None) -> str:
    with pytest.raises(DataError) as refused:
        Exam.open(path).questions(split, subject)
    assert_one_sentence(refused.value)
    return str(refused.value)


# What is read


@pytest.fixture(scope="module")
def ceval_zip(shared: Path) -> Path:
    return shared / "data" / "ceval-exam.zip"


@pytest.fixture(scope="module")
def rows(ceval_zip: Path) -> dict[tuple[str, str], list[list[str]]]:
    with zipfile.ZipFile(ceval_zip) as packed:
        return {
            (split, name.removesuffix(f"_{split}.csv")): list(
                csv.reader(io.StringIO(packed.read(f"{split}/{name}").decode("utf-8-sig"), newline=""))
            )[1:]
            for split, _, name in (member.partition("/") for member in packed.namelist())
            if name
        }


@pytest.mark.shared
class TestRealExam:
    def test_every_question_of_every_split(self, ceval_zip: Path, rows: dict[tuple[str, str], list[list[str]]]) -> None:
        exam = Exam.open(ceval_zip)
        assert (exam.name, exam.splits, exam.measured) == ("C-Eval", ("dev", "test", "val"), "val")
        for split in exam.splits:
            keys = sorted(subject for each, subject in rows if each == split)
            assert [subject.key for subject in exam.subjects(split)] == keys
            assert exam.questions(split) == tuple(
                Question(key, number, text, (a, b, c, d), answer[0] if answer else None)
                for key in keys
                for number, text, a, b, c, d, *answer in rows[split, key]
            )

    def test_one_subject_of_the_unpacked_folder(self, ceval_zip: Path, tmp_path: Path) -> None:
        with zipfile.ZipFile(ceval_zip) as packed:
            packed.extractall(tmp_path / "exam")
        questions = Exam.open(tmp_path / "exam").questions("val", "law")
        assert questions == Exam.open(ceval_zip).questions("val", "law")
        assert questions[0].text == "下列关于法律推理的表述，能够成立的是____。"
        assert {question.subject for question in questions} == {"law"}

    def test_the_table_has_its_subjects(self, rows: dict[tuple[str, str], list[list[str]]]) -> None:
        assert CEVAL.keys() == {subject for _, subject in rows}


def test_subjects_and_categories() -> None:
    def sizes(subjects: Mapping[str, Subject]) -> dict[str, int]:
        return dict(Counter(subject.category for subject in subjects.values()))

    assert sizes(CEVAL) == {"STEM": 20, "Social Science": 10, "Humanities": 11, "Other": 11}
    assert sizes(CMMLU) == {"STEM": 17, "Social Science": 22, "Humanities": 13, "Other": 15}
    cultivation = CEVAL["ideological_and_moral_cultivation"]
    assert (cultivation.english, cultivation.chinese) == ("Ideological and Moral Cultivation", "思想道德修养与法律基础")
    assert [subject.key for subject in CMMLU.values()] == list(CMMLU)


@pytest.mark.parametrize("make", [folder, lambda path, files: archive(path / "x.zip", files)])
def test_ceval_by_hand(tmp_path: Path, make: Callable[[Path, dict[str, str]], Path]) -> None:
    exam = Exam.open(make(tmp_path / "exam", CEVAL_FILES))
    assert exam.splits == ("dev", "test", "val")
    assert exam.questions("dev") == (Question("law", "0", "多\n行", ("1", "2", "3", "4"), "D"),)
    assert exam.questions("test") == (Question("law", "7", "谁?", ("a", "b", "c", "d"), None),)
    assert [question.subject for question in exam.questions("val")] == ["law", "logic"]
    assert exam.questions("val", "logic")[0].body == "法律是什么？\nA. 甲\nB. 乙\nC. 丙\nD. 丁"


def test_cmmlu_by_hand(tmp_path: Path) -> None:
    exam = Exam.open(archive(tmp_path / "cmmlu.zip", {**CMMLU_FILES, "__MACOSX/dev/._arts.csv": b"\x00"}))
    assert (exam.name, exam.splits, exam.measured) == ("CMMLU", ("dev", "test"), "test")
    assert [subject.chinese for subject in exam.subjects("test")] == ["解剖学", "艺术学"]
    assert exam.questions("test", "arts") == (Question("arts", "0", "画家是谁", ("甲", "乙", "丙", "丁"), "C"),)


def test_zip_in_a_hub_folder_and_a_folder_in_the_zip(tmp_path: Path) -> None:
    files = {f"ceval-exam/{name}": text for name, text in CEVAL_FILES.items()}
    archive(tmp_path / "ceval-exam.zip", files)
    folder(tmp_path, {"README.md": "", "ceval-exam.py": ""})
    assert Exam.open(tmp_path).questions("val", "law")[0].answer == "B"


def test_byte_order_mark_and_windows_lines(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbf" + VAL.replace("\n", "\r\n").encode()
    (question,) = Exam.open(folder(tmp_path, {"val/law_val.csv": data})).questions("val")
    assert (question.id, question.answer) == ("0", "B")


# What is refused


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (VAL.replace("question", "Frage"), ["has the columns id, Frage, A", "expected id, question, A"]),
        (TEST, ["has the columns", "expected id, question, A, B, C, D, answer"]),
        (ARTS, ["has the columns (unnamed), Question", "expected id, question"]),
        ("", ["has the columns ;"]),
        ("id,question,A,B,C,D,answer\n", ["has no questions"]),
        (VAL + "1,wie,a,b\n", ["line 3: 4 columns", "expected 7"]),
        (VAL + "1,wie,a,b,c,d,A,too many\n", ["line 3: 8 columns", "expected 7"]),
        (VAL + "1,wie,a,b,c,d,E\n", ["line 3: the answer is 'E'", "A, B, C or D"]),
        (VAL + "1,wie,a,b,c,d,\n", ["line 3: the answer is ''"]),
        (VAL + "1,wie,a,b,c,d,AB\n", ["line 3: the answer is 'AB'"]),
        (VAL + '1,"wie,a,b,c,d,A\n', ["line 3", "unexpected end of data"]),
        (VAL.encode("gb18030"), ["not UTF-8", "byte 29"]),
        (VAL + "1," + "x" * 200_000 + ",a,b,c,d,A\n", ["line 3", "field larger"]),
    ],
)
def test_bad_file(tmp_path: Path, content: str | bytes, words: list[str]) -> None:
    in_folder = refusal(folder(tmp_path / "exam", {"val/law_val.csv": content}))
    in_zip = refusal(archive(tmp_path / "exam.zip", {"val/law_val.csv": content}))
    for word in words:
        assert word in in_folder
        assert word in in_zip
    assert str(tmp_path / "exam" / "val" / "law_val.csv") in in_folder
    assert f"{tmp_path / 'exam.zip'}: val/law_val.csv" in in_zip


def test_unknown_split_and_subject(tmp_path: Path) -> None:
    path = folder(tmp_path, CEVAL_FILES)
    assert "has no split 'train' of C-Eval; it has dev, test, val." in refusal(path, "train")
    assert "no subject 'lwa' in its split val; the nearest is law." in refusal(path, "val", "lwa")
    assert "no subject '化学' in its split val; expected one such as law, logic." in refusal(path, "val", "化学")
    assert "no subject 'logic' in its split dev" in refusal(path, "dev", "logic")
    (path / "val" / "laws_val.csv").write_text(VAL)
    assert "laws_val.csv is of no subject of C-Eval; the nearest is law." in refusal(path)


def test_nothing_there(tmp_path: Path) -> None:
    assert "does not exist, and nothing is downloaded" in refusal(tmp_path / "absent.zip")
    assert "has no folders of CSV files and 0 zip files" in refusal(tmp_path)
    archive(tmp_path / "a.zip", CEVAL_FILES)
    archive(tmp_path / "b.zip", CEVAL_FILES)
    assert "2 zip files" in refusal(tmp_path)
    assert "has no exam; expected files such as val/law_val.csv" in refusal(archive(tmp_path / "c.zip", {"x.csv": VAL}))
    assert "has no exam" in refusal(folder(tmp_path / "other", {"data/x.csv": VAL}))
    (tmp_path / "text.zip").write_text(VAL)
    assert "is not a zip" in refusal(tmp_path / "text.zip")


def test_damaged_zip(tmp_path: Path) -> None:
    data = archive(tmp_path / "exam.zip", CEVAL_FILES, zipfile.ZIP_STORED).read_bytes()
    place = data.index("法律是什么".encode())
    (tmp_path / "exam.zip").write_bytes(data[:place] + b"X" + data[place + 1 :])
    assert "val/law_val.csv is damaged" in refusal(tmp_path / "exam.zip")
    (tmp_path / "exam.zip").write_bytes(data[: len(data) // 2])
    assert "is not a zip" in refusal(tmp_path / "exam.zip")


def test_encrypted_and_rarely_packed(tmp_path: Path) -> None:
    path = archive(tmp_path / "exam.zip", CEVAL_FILES)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    assert "dev/law_dev.csv is encrypted" in refusal(path)
    assert "packed by a rare method" in refusal(archive(path, CEVAL_FILES, zipfile.ZIP_LZMA))


def test_zip_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = VAL + "\n" * bundle.MAX_FILE_BYTES
    path = archive(tmp_path / "exam.zip", {"val/law_val.csv": big})
    assert path.stat().st_size < 20_000
    message = refusal(path)
    assert f"val/law_val.csv has {len(big.encode()):,} bytes" in message
    assert f"at most {bundle.MAX_FILE_BYTES:,}" in message

    # A header that says less than there is: no more than that is unpacked, and its checksum is wrong.
    data = path.read_bytes()
    size, small = len(big.encode()).to_bytes(4, "little"), len(VAL.encode()).to_bytes(4, "little")
    assert data.count(size) == 2
    path.write_bytes(data.replace(size, small))
    assert "val/law_val.csv is damaged" in refusal(path)

    monkeypatch.setattr(bundle, "MAX_TOTAL_BYTES", 200)
    assert "bytes when unpacked" in refusal(archive(path, CEVAL_FILES))
    monkeypatch.setattr(bundle, "MAX_FILES", 3)
    assert "has 4 CSV files" in refusal(archive(path, CEVAL_FILES))
    assert "has 4 CSV files" in refusal(folder(tmp_path / "exam", CEVAL_FILES))
    monkeypatch.setattr(bundle, "MAX_ARCHIVE_BYTES", 100)
    assert "at most 100" in refusal(path)


def test_large_file_in_a_folder(tmp_path: Path) -> None:
    path = folder(tmp_path, {"val/law_val.csv": VAL + "\n" * bundle.MAX_FILE_BYTES})
    assert f"more than {bundle.MAX_FILE_BYTES:,} bytes" in refusal(path)


ROW = st.lists(st.text(max_size=4), min_size=5, max_size=5).map(
    lambda cells: [cell.replace("\r", "") for cell in cells]
)


@given(rows=st.lists(st.tuples(ROW, st.sampled_from("ABCD")), min_size=1, max_size=5))
def test_any_text_in_any_cell(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[list[str], str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["id", "question", *"ABCD", "answer"])
    for number, (cells, answer) in enumerate(rows):
        writer.writerow([number, *cells, answer])
    path = folder(tmp_path_factory.getbasetemp() / "any", {"val/law_val.csv": text.getvalue()})
    assert [[q.text, *q.choices] for q in Exam.open(path).questions("val")] == [cells for cells, _ in rows]


@given(position=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_any_damage_is_a_sentence(tmp_path_factory: pytest.TempPathFactory, position: int, byte: int) -> None:
    path = archive(tmp_path_factory.getbasetemp() / "damaged.zip", CEVAL_FILES)
    data = bytearray(path.read_bytes())
    data[position % len(data)] = byte
    path.write_bytes(data)
    with suppress(DataError):
        exam = Exam.open(path)
        for split in exam.splits:
            exam.questions(split)
