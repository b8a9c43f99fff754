"""Any query runs, finds what it should, and in an order that can be explained."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omnivec.errors import UsageError
from omnivec.store import fulltext, matches
from omnivec.store.fulltext import plan
from omnivec.store.strings import has_unspaced, searchable, storable
from store_samples import document

TEXTS = [
    "Learning C++ and C# in one week",  # 1
    "The letter c is the third letter of the alphabet",  # 2
    "What's new? Everything.",  # 3
    "What is new in this release",  # 4
    "Straße und Café in Zürich",  # 5
    "東京都の天気は晴れです",  # 6
    "京都の紅葉",  # 7
    "กรุงเทพมหานครเป็นเมืองหลวง",  # 8
    "Install .NET on state-of-the-art machines AND more",  # 9
    "net income, state of affairs",  # 10
    "party time \U0001f389\U0001f389",  # 11
    "???",  # 12
    "Die Straßenbahn fährt",  # 13
    "한국어 문장 입니다",  # 14
    "Наука и Жизнь-2",  # 15
    "naука жизнь",  # 16
]


@pytest.fixture
def texts(catalogue):
    catalogue.write([document(f"{i:02}", [text]) for i, text in enumerate(TEXTS, 1)])
    return catalogue


def keys(texts, query, k=20, allowed=None):
    found = texts.text_search(query, k, allowed)
    assert found == sorted(found, key=lambda pair: (-pair[1], pair[0]))
    assert all(score > 0 for _, score in found)
    return [key for key, _ in found]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("week", {1}),
        ("WEEK!", {1}),
        ("cafe zurich", {5}),
        ("café", {5}),
        ("c", {1, 2}),
        ("unheard of", set()),  # "of" says nothing beside another word
        ("of", {2, 9, 10}),
        ("machine learned", {1, 9}),  # stems
        ("문장", {14}),
        ("東京都", {6}),
        ("京都", {6, 7}),
        ("東", {6}),
        ("天気は晴れ", {6}),
        ("กรุงเทพ", {8}),
        ("紅葉 weather", {7}),
        ("\U0001f389", {11}),
        ("party \U0001f389", {11}),
        ("?", {3, 12}),
        ("???", {12}),
        ("", set()),
        ("   \t\n", set()),
        ("\0", set()),
        ("\u0301", set()),
    ],
)
def test_what_is_found(texts, query, expected):
    assert set(keys(texts, query)) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("C++", [1, 2]),
        ("c#", [1, 2]),
        ("what's new?", [3, 4]),
        (".NET", [9, 10]),
        ('"state-of-the-art"', [9, 10]),
        ("ЖИЗНЬ-2", [15, 16]),
    ],
)
def test_what_holds_the_literal_comes_first(texts, query, expected):
    """Without it the shorter text, or the one with the rarer words, would."""
    assert sorted(keys(texts, query)) == sorted(expected)
    assert keys(texts, query)[0] == expected[0]


@pytest.mark.parametrize(
    "query", ["AND", "NOT week", "week OR", "NEAR(a b)", "text: week", "week*", "^week", "-week", '"week']
)
def test_operators_are_words(texts, query):
    found = keys(texts, query)
    assert (1 in found) == ("week" in query or query == "AND")


MIXED = {
    "修改youer服务端的端口": ("youer", "服务端", "端口"),
    "発売は2024年の春です": ("2024", "2024年", "春です"),
    "新しいiPhoneを買った": ("iphone", "iPhoneを", "買った"),
    "２０２３年のＡＰＩ設計": ("2023", "API", "api", "設計"),
    "서울에서 2022년 iPhone을 샀다": ("2022", "iphone", "2022년"),
    "ราคาUSB500บาท": ("usb500", "บาท"),
    "使用python3.11编译": ("python3", "python3.11", "编译"),
    "the ﬁnal oﬀice co\xadoperation": ("final", "office", "cooperation"),
    "ﾊﾝｶｸ文字": ("ハンカク", "ﾊﾝｶｸ", "文字"),
    "重さは５㎏まで": ("5", "kg", "㎏"),
    "Photoshop™ for Ⅳ": ("photoshop", "iv"),
    "résumé of Ångström": ("resume", "angstrom", "Å\u006egstr\u00f6m"),
}


@pytest.mark.parametrize("text", MIXED, ids=range(len(MIXED)))
def test_words_and_numbers_that_touch_another_script_are_found(texts, text):
    texts.write([document("mixed", [text])])
    (own,) = texts.keys_of(["mixed"]).tolist()
    for query in (*MIXED[text], text):
        assert own in keys(texts, query), query
    assert texts.check() == []


def test_only_words_of_their_own_are_found_inside_other_scripts(texts):
    texts.write([document("mixed", ["修改youer服务端"])])
    assert keys(texts, "you") == [] and keys(texts, "改y") == [keys(texts, "youer")[0]]


def test_ordinary_punctuation_changes_nothing(texts):
    """A question about U.S. states is not answered by whatever else holds U.S."""
    texts.write(
        [
            document(
                "answer", ["Georgia grows the most peanuts of all states; Georgia's peanuts are exported"]
            ),
            *(
                document(f"us {i}", [f"The U.S. mint number {i} was founded by the U.S. government"])
                for i in range(3)
            ),
        ]
    )
    asked = texts.text_search("Which U.S. state produces the most peanuts?", 9)
    plain = texts.text_search("Which U S state produces the most peanuts", 9)
    assert asked == plain and asked[0][0] == texts.keys_of(["answer"])[0]
    for marked, bare in (
        ("a state-of-the-art machine's release", "a state of the art machine s release"),
        ("release and/or income", "release and or income"),
        ("“income”, e.g. release (state)!", "income e g release state"),
    ):
        assert texts.text_search(marked, 9) == texts.text_search(bare, 9)


@pytest.mark.parametrize(
    "identifier",
    [
        "os.path",
        "snake_case",
        "utf-8",
        "#tag",
        "a@b.org",
        "std::sort",
        "foo()",
        "/etc/hosts",
        "__init__",
        "x->y",
        "3.5",
    ],
)
def test_a_rare_identifier_is_found_first(texts, identifier):
    words = " ".join("".join(c if c.isalnum() else " " for c in identifier).split()[::-1])
    texts.write([document(f"other {i}", [f"{words} {words} {words}"]) for i in range(5)])
    texts.write(
        [document("own", [f"a much longer passage of text which holds {identifier} just once in its middle"])]
    )
    (own,) = texts.keys_of(["own"]).tolist()
    assert keys(texts, f"what is {identifier}?")[0] == own


def test_the_best_are_chosen_by_sqlite_and_not_here(texts):
    """However many passages match, no more than k of them reach Python."""
    texts.write([document(f"many {i}", [f"common word {'x ' * (i % 7)}"]) for i in range(500)])
    everything = texts.text_search("common week 東京", 1000)
    with texts._connections.snapshot() as connection:
        rows = []
        connection.row_factory = lambda cursor, row: rows.append(row) or row
        try:
            best = texts.text_search("common week 東京", 3)
        finally:
            connection.row_factory = None
    assert best == everything[:3] and len(everything) > 500
    assert len(rows) <= 10


@pytest.mark.parametrize("piece", ["name{}.of{}", "+{}x", "{}x + {}y ;", "word{} other{}", "same words"])
def test_a_question_may_be_a_whole_file(texts, piece):
    query = "\n".join(piece.format(i, i) for i in range(2000))
    assert dict(texts.text_search(f"{query} week", 20)) == pytest.approx(dict(texts.text_search("week", 20)))
    assert keys(texts, " ".join(map(chr, range(0x4E00, 0x5500)))) == [6, 7]


def test_scores_of_words_are_added_however_often_and_however_many(texts, monkeypatch):
    single = dict(texts.text_search("week", 20)) | dict(texts.text_search("cafe", 20))
    found = dict(texts.text_search("week cafe week week", 20))
    assert found == pytest.approx({1: 3 * single[1], 5: single[5]})
    query = "the new state of affairs in C++ or .NET, 東京都 京都 one week more week"
    whole = texts.text_search(query, 20)
    monkeypatch.setattr(fulltext, "MOST_TERMS", 1)
    monkeypatch.setattr(fulltext, "MOST_SOURCES", 2)
    assert [key for key, _ in whole] == keys(texts, query)
    assert dict(whole) == pytest.approx(dict(texts.text_search(query, 20)))


def test_scores_are_those_of_bm25(texts):
    """Robertson's formula with FTS5's k1 = 1.2 and b = 0.75."""
    texts.write([document("x", ["fox fox dog"]), document("y", ["fox cat bird wolf"])])
    everything = [*TEXTS, "fox fox dog", "fox cat bird wolf"]
    with texts._connections.snapshot() as connection:
        connection.execute("PRAGMA query_only = OFF")
        connection.execute(
            "CREATE VIRTUAL TABLE temp.lengths USING fts5vocab (main, passages_words, instance)"
        )
        lengths = dict(connection.execute("SELECT doc, count(*) FROM temp.lengths GROUP BY doc").fetchall())
    n, average = len(everything), sum(lengths.values()) / len(everything)
    rarity = np.log((n - 2 + 0.5) / (2 + 0.5))
    for key, score in texts.text_search("fox", 5):
        frequency = {17: 2, 18: 1}[key]
        share = 1.2 * (0.25 + 0.75 * lengths[key] / average)
        assert score == pytest.approx(rarity * frequency * 2.2 / (frequency + share), rel=1e-6)


def test_a_word_that_is_said_twice_counts_twice(texts):
    once, twice = dict(texts.text_search("week", 9)), dict(texts.text_search("week in week", 9))
    assert twice == pytest.approx({key: 2 * score for key, score in once.items()})


def test_scores_of_words_and_trigrams_are_added(texts):
    texts.write([document("mixed", ["week 東京都の"])])
    words, trigrams = dict(texts.text_search("week", 9)), dict(texts.text_search("東京都の", 9))
    whole_run = trigrams[17] - trigrams[6]
    assert whole_run > 1  # it is a word of its own there
    both = dict(texts.text_search("week 東京都の", 9))
    assert both == pytest.approx({key: words.get(key, 0) + trigrams.get(key, 0) for key in (1, 6, 7, 17)})
    assert keys(texts, "week 東京都の")[0] == 17


def test_equal_scores_go_by_key(texts):
    texts.write([document(f"same {i}", ["identical twins"]) for i in range(9)])
    assert keys(texts, "twins", k=5) == [17, 18, 19, 20, 21]


def test_only_allowed_keys_are_found(texts):
    for query in ("c", "京都", "東京都の", "?", "C++"):
        everything = keys(texts, query)
        for allowed in ([], everything[:1], everything[1:], [1, 7, 12, 999]):
            assert keys(texts, query, allowed=np.array(allowed, np.int64)) == [
                key for key in everything if key in allowed
            ]


@pytest.fixture
def common(catalogue):
    """400 passages of ten words, each of which stands in 26 to 45 % of them, in some several times."""
    chance = np.random.default_rng(0)
    words = np.array(["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"])
    shares = 1 / np.arange(4, 14)
    catalogue.write(
        [
            document(f"{i:03}", [" ".join([*words[chance.random(10) < shares], *chance.choice(words, 2)])])
            for i in range(400)
        ]
    )
    return catalogue


QUESTIONS = [
    "alpha beta",
    "theta iota kappa",
    "alpha beta gamma delta epsilon zeta",
    "kappa kappa eta",
    "alpha",
]


@pytest.mark.parametrize("question", QUESTIONS)
def test_common_words_are_ranked_among_those_with_the_rarest_of_them(common, monkeypatch, question):
    right = common.text_search(question, 10)
    monkeypatch.setattr(fulltext, "MOST_RANKED", 120)
    found = common.text_search(question, 10)
    if question != "alpha":  # all that have it look alike before they are ranked
        assert [key for key, _ in found] == [key for key, _ in right]
    scores = dict(common.text_search(question, 400))  # more than 120 are wanted: all are ranked
    assert len(scores) > 120
    for key, score in found:
        assert score == pytest.approx(scores[key])


def test_no_more_passages_are_ranked_than_stated(common, monkeypatch):
    monkeypatch.setattr(fulltext, "MOST_RANKED", 30)
    with common.connection() as connection:
        for question in QUESTIONS:
            (source,) = fulltext._ranked(
                connection, "passages_words", tuple(question.split()[:1]), None, narrow=True
            )
            assert len(connection.execute(source.sql, source.parameters).fetchall()) == 30
    assert len(common.text_search("alpha beta", 30)) == 30


def test_passages_that_are_not_allowed_take_no_place_among_the_ranked(common, monkeypatch):
    allowed = np.arange(2, 401, 2)
    right = common.text_search("theta iota kappa", 10, allowed)
    monkeypatch.setattr(fulltext, "MOST_RANKED", 100)
    assert common.text_search("theta iota kappa", 10, allowed) == right
    assert {key % 2 for key, _ in common.text_search("alpha", 100, allowed)} == {0}


@given(st.lists(st.integers(0, 4), max_size=30), st.integers(1, 31))
def test_the_heaviest_places(weights, count):
    array = np.array(weights, np.float32)
    ordered = sorted((place for place, own in enumerate(weights) if own), key=lambda i: (-weights[i], i))
    assert fulltext._heaviest(array, count).tolist() == sorted(ordered[:count])


def test_words_are_marked_alike_by_looking_passages_up_and_by_passing_over_them(common, monkeypatch):
    passed_over = common.matches("alpha iota", np.arange(1, 11))
    monkeypatch.setattr(matches, "_PASSED_OVER", 1)
    assert common.matches("alpha iota", np.arange(1, 11)) == passed_over
    assert any(passed_over.values())


def test_k_cuts_and_must_be_positive(texts):
    assert keys(texts, "c", k=1) == keys(texts, "c")[:1]
    with pytest.raises(UsageError, match="k is 0"):
        texts.text_search("c", 0)


def test_a_very_long_query(texts):
    words = " ".join(f"word{i}" for i in range(5000))
    assert keys(texts, f"{words} week {'東京都の天気' * 500} {'a' * 100_000} {'+' * 60_000}x") != []


def test_a_plan():
    asked = plan('He said: "C++ isn\'t C", 東京タワー 京都 state-of-the-art (really)!')
    assert asked.words == (
        "He",
        "said",
        "C",
        "isn",
        "t",
        "C",
        "東京タワー",
        "京都",
        "state",
        "art",
        "really",
    )
    assert asked.trigrams == ("東京タ", "京タワ", "タワー")
    assert asked.short == ("京都",)
    assert asked.literals == ("c++",)


@pytest.mark.parametrize(
    "text", ["漢字", "ひらがな", "カタカナ", "ｶﾅ", "ไทย", "ລາວ", "ខ្មែរ", "မြန်မာ", "\U00020000", "a漢"]
)
def test_scripts_without_spaces(text):
    assert has_unspaced(text)


@pytest.mark.parametrize("text", ["", "abc", "한국어", "हिन्दी", "العربية", "\U0001f642", "кириллица"])
def test_scripts_with_spaces(text):
    assert not has_unspaced(text)


ANYTHING = st.one_of(
    st.text(max_size=30),
    st.text(
        st.sampled_from("\"'*^()-+:{}\\\0\n ANDORNEAT,.?!a東京ก\u0301\u094d\ud800\U0001f642|&"), max_size=20
    ),
    st.lists(st.sampled_from(["AND", "OR", "NOT", "NEAR(", '"', "c++", "東京", "\u0301", "text:", ")"])).map(
        " ".join
    ),
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=ANYTHING)
def test_every_query_runs(texts, query):
    keys(texts, query, k=3)
    keys(texts, query, k=3, allowed=np.arange(5))


# Letters that Unicode has had for long; SQLite's tables do not know the newest ones.
OLD = st.text(
    st.characters(exclude_categories=["Cs"]).filter(lambda c: unicodedata.ucd_3_2_0.category(c) != "Cn"),
    max_size=20,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=OLD | st.sampled_from([*TEXTS, "A\u030a", "e\u0301te\u0301", "हिन्दी में", "\u0301", "東\u0301京"]))
def test_a_text_finds_itself(texts, text):
    texts.write([document("self", [text])])
    (own,) = texts.keys_of(["self"]).tolist()
    found = keys(texts, text, k=100)
    assert (own in found) == bool(searchable(storable(text)).split())
    assert texts.check() == []


@pytest.mark.parametrize("query", ["week", "東京", "กรุงเทพ", "os.path", "C++", "2024年", "hello world"])
@pytest.mark.parametrize(
    "sign", ["・", "\u17d4", "\u104a", "\u0e4f", "।", "؟", "\u200b", "\u2060", "\u2e2e", "–"]
)
def test_punctuation_of_every_script_changes_no_query(query, sign):
    assert plan(f"{sign}{query}{sign}") == plan(query)
    assert plan(f"{sign} {query} {sign}") == plan(query)


@pytest.mark.parametrize("sign", "+=$@#%^`|~<>&-/\\")
def test_a_sign_by_itself_beside_words_is_no_identifier(sign):
    assert plan(f"salt {sign} pepper") == plan("salt pepper")
    assert plan("salt += pepper").literals == ("+=",)
    assert plan(sign).literals == (sign,)


def test_a_middle_dot_parts_names(texts):
    texts.write([document("names", ["東京・大阪・京都"])])
    (own,) = texts.keys_of(["names"]).tolist()
    assert own in keys(texts, "大阪・名古屋")
    assert keys(texts, "東京・") == keys(texts, "東京")
