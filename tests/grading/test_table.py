# ruff: noqa: E501
"""Hand-labelled rows (gold, completion, outcome): what a careful reader would say of each.

A row for every kind of writing met in real traces and for every bug found.
"""

import pytest

from leadspan.grading import Grader

C, W, U = "correct", "wrong", "unparsed"

# gold, content of the box, outcome
BOXED = [
    # integers and how they are written
    ("5", "5", C), ("5", "6", W), ("5", "05", C), ("5", "5.0", C), ("5", "5.", C), ("5", "+5", C),
    ("-5", "-5", C), ("-5", "5", W), ("5", "-5", W), ("-5", "−5", C), ("0", "0", C), ("0", "-0", C),
    ("1234", "1,234", C), ("1234", "1{,}234", C), ("1234", "1\\,234", C), ("9360", "\\$9,\\!360", C),
    ("1234567", "1,234,567", C), ("1234", "1.234", W), ("12", "1 2", W), ("10000", "10 000", C),
    ("70000", "7000", W), ("27", "27.0", C), ("27", "27.5", W), ("106", "106.12", W),
    # decimals and fractions
    ("0.5", "\\frac{1}{2}", C), ("\\frac{1}{2}", "0.5", C), ("\\frac{1}{2}", "1/2", C),
    ("\\frac14", "\\dfrac{1}{4}", C), ("\\frac 34", "\\tfrac{3}{4}", C), ("\\frac{3}{4}", "\\cfrac{3}{4}", C),
    ("\\frac{2}{4}", "\\frac{1}{2}", C), ("\\frac{1}{2}", "\\frac{2}{1}", W), ("\\frac{1}{3}", "0.333333", C),
    ("\\frac{1}{3}", "0.33", W), ("0.333333", "\\frac{1}{3}", C), ("-\\frac{1}{2}", "\\frac{-1}{2}", C),
    ("-\\frac{1}{2}", "-0.5", C), ("\\frac{7}{2}", "3\\frac{1}{2}", C), ("\\frac{7}{2}", "3 1/2", C),
    ("1 1/2", "11/2", W), ("3.5", "7/2", C), (".5", "0.5", C), ("0.50", ".5", C), ("1e3", "1000", C),
    ("36", "\\dfrac{400}{11}", W), ("\\frac{400}{11}", "36.36", W), ("\\frac{1}{0}", "5", W),
    # units, currency, percent, degrees
    ("50", "50\\%", C), ("50\\%", "50", C), ("0.5", "50\\%", C), ("50\\%", "0.5", C), ("50\\%", "0.5\\%", W),
    ("50", "50 \\text{ percent}", C), ("16", "\\$16.00", C), ("125", "\\$125", C), ("16", "€16", C),
    ("180000", "180{,}000 \\text{ meters}", C), ("5", "5 \\text{ apples}", C), ("5", "5\\text{ cm}", C),
    ("5", "5\\ \\mathrm{cm}", C), ("5", "5 cm^2", C), ("90", "90^\\circ", C), ("90^\\circ", "90", C),
    ("90", "90^{\\circ}", C), ("90", "66", W), ("2", "2:00\\ \\text{pm}", C), ("2", "2:30", W),
    ("5000000", "5 \\text{ million}", C), ("5", "5 million", C), ("5000", "5 million", W),
    ("860", "620 \\text{ kilometers}", W), ("18", "18 dollars per day", C), ("3", "3 kg", C),
    # assignments
    ("5", "x = 5", C), ("5", "x=5", C), ("5", "x=6", W), ("5", "x \\approx 5", C), ("2", "2x", W), ("2", "2xy", W),
    ("2x", "2x", C), ("2", "2\\pi", W), ("2\\pi", "2\\pi", C), ("6.283185", "2\\pi", C),
    # algebra
    ("x^2+1", "1+x^2", C), ("x^2+1", "x^2-1", W), ("(x+1)^2", "x^2+2x+1", C), ("p - q", "-q+p", C),
    ("p-q", "q-p", W), ("2\\sqrt{113}", "\\sqrt{452}", C), ("2\\sqrt{113}", "2\\sqrt{185}", W),
    ("\\sqrt{66}", "10", W), ("\\frac{\\sqrt{2}}{2}", "\\frac{1}{\\sqrt{2}}", C), ("1024", "2^{10}", C),
    ("2^{10}", "1024", C), ("10^5", "100000", C), ("120", "5!", C), ("\\frac{x+2}{7}", "\\frac{x}{7}+\\frac{2}{7}", C),
    ("3\\sqrt{13}", "3\\sqrt{13}", C), ("\\sin x", "\\cos x", W), ("\\ln 8", "3\\ln 2", C),
    ("6 - 5i", "6-5i", C), ("6-5i", "6+5i", W), ("y = 2x+3", "y=2x+3", C), ("y=2x+3", "2x+3", C),
    ("y=2x+3", "y=3x+2", W), ("\\binom{5}{2}", "10", C), ("7!", "5040", C), ("\\infty", "\\infty", C),
    ("11\\sqrt{2}", "\\sqrt{242}", C), ("x \\le 3", "x \\leq 3", C), ("x>3", "x<3", W), ("1.5", "\\frac{3}{2}", C),
    # tuples, sets, intervals, matrices
    ("(1,2)", "(1, 2)", C), ("(1,2)", "(2,1)", W), ("\\left( 3, \\frac{\\pi}{2} \\right)", "(3, \\pi/2)", C),
    ("\\{1\\pm\\sqrt{5},-2\\}", "\\{ -2, 1 - \\sqrt{5}, 1 + \\sqrt{5} \\}", C), ("\\{1,2\\}", "\\{2,1\\}", C),
    ("\\{1,2\\}", "\\{1,3\\}", W), ("1,2", "2,1", C), ("1,-2", "-2, 1", C), ("1, 2", "1, 3", W),
    ("[1,2]", "[1,2]", C), ("(1,2]", "[1,2]", W), ("(1,2)", "[1,2]", W), ("(-\\infty, 3]", "(-\\infty,3]", C),
    ("(-\\infty, 3)", "(-\\infty,3]", W), ("(2,\\infty)", "x>2", C), ("(0.5, 1)", "(\\frac{1}{2}, 1)", C),
    ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}", C),
    ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix}2\\\\1\\end{pmatrix}", W),
    ("[2,5)", "[2, 5)", C), ("(1,2),(3,4)", "(1,2), (3,4)", C), ("(6,31,-1)", "(6,31,-1)", C),
    # words
    ("\\text{Evelyn}", "Evelyn", C), ("\\text{Evelyn}", "\\text{Evelyn}", C), ("\\text{east}", "east", C),
    ("\\text{east}", "seat", W), ("\\text{east}", "west", W), ("east", "\\text{West}", W), ("\\text{(B)}", "B", C),
    ("\\text{(B)}", "C", W), ("\\text{(B)}", "(B)", C), ("even", "\\text{even}", C), ("Navin", "\\textbf{Navin}", C),
    ("5", "\\text{no solution}", W), ("\\text{no solution}", "\\text{No Solution}", C), ("Tuesday", "Monday", W),
    ("\\text{ellipse}", "\\text{hyperbola}", W), ("\\text{June 20}", "\\text{June 20}", C), ("\\text{yes}", "\\text{no}", W),
    # nested boxes and braces
    ("5", "\\boxed{5}", C), ("\\frac{1}{2}", "{\\frac{1}{2}}", C), ("5", "\\textbf{5}", C), ("5", "\\mathbf{5}", C),
    ("x_{1}", "x_1", C), ("5", " 5 ", C), ("5", "", U), ("5", "  ", U), ("5", "\\frac{1", U), ("5", "\\frac{}{}", U),
    ("5", "???", U), ("5", "\\sqrt{", U), ("5", "5}", C),
]  # fmt: skip

# gold, whole completion, outcome
TEXTS = [
    ("5", "The answer is 5.", C), ("5", "The final answer is $5$.", C), ("5", "Answer: 5", C),
    ("5", "**Answer:** 5", C), ("5", "**Final Answer**: 5", C), ("6", "**Answer:** Solo needs to read **6 pages per day.**", C),
    ("140", "Answer: Jordan would earn \\$140 in one week by working instead of playing video games.", C),
    ("4", "**Answer:** 3 loaves of bread cost \\$4 more than 2 bagels.", C),
    ("5600", "**Answer:** Gabriel still needs **$5,600**.", C), ("319", "**Answer:** Alex will need **318 seats**.", W),
    ("10", "**Answer:** Violetta will get $10 in change.", C), ("11", "Answer: 11 more CDs", C),
    ("\\frac{1}{2}", "The answer is $\\frac{1}{2}$", C), ("5", "I first thought the answer is 4, but the answer is 5", C),
    ("5", "the answer is 4, wait. The answer is 5. I checked it in 3 ways.", C), ("18", "So she makes 18 dollars", C),
    ("18", "So she makes 9 * 2 = $18 every day.", C), ("18", "She makes nothing", U), ("18", "", U),
    ("5", "\\boxed{4} no, \\boxed{5}", C), ("4", "\\boxed{4} no, \\boxed{5}", W), ("5", "\\boxed{5} and then \\boxed{", C),
    ("5", "\\boxed{", U), ("5", "The answer is \\boxed{5}. It has 7 digits.", C), ("5", "\\boxed 5", C),
    ("5", "\\fbox{5}", C), ("5", "\\[ \\boxed{\n5\n} \\]", C), ("3", "1 2 3", C), ("2,3", "The answer is $2$ and $3$.", C),
    ("east", "The answer is east.", C), ("east", "She faces 90 degrees.", U), ("1/2", "The answer is 1/2.", C),
    ("x^2", "The answer is $x^2$.", C), ("12.5", "answer = 12.5", C), ("-3", "The answer is -3.", C), ("7", "ANSWER: 7", C),
]  # fmt: skip

# kind, gold, completion, outcome
OTHERS = [
    ("exact", "o 43", "o 43", C), ("exact", "o 43", " o 43\n", C), ("exact", "o 43", "o 44", W), ("exact", "o 43", "o43", W),
    ("exact", "043", "43", W), ("exact", "o 43", "", U), ("exact", "A", "\\boxed{A}", C), ("exact", "A", "a", W),
    ("numeric", "3.14159", "\\boxed{3.1416}", C), ("numeric", "3.14159", "\\boxed{3.2}", W), ("numeric", "100", "about 100.001", C),
    ("numeric", "5", "\\boxed{five}", U), ("numeric", "5", "nothing", U), ("numeric", "-2", "The answer is -2", C),
    ("choice", "B", "The answer is B.", C), ("choice", "B", "The answer is (B)", C), ("choice", "(b)", "\\boxed{B}", C),
    ("choice", "B", "\\boxed{\\text{B}}", C), ("choice", "B", "\\boxed{C}", W), ("choice", "B", "**B**", C),
    ("choice", "B", "So the correct option is C", W), ("choice", "B", "B) 42", U), ("choice", "J", "Answer: J", C),
    ("choice", "B", "I cannot say which", U), ("choice", "B", "\\boxed{B. 42 apples}", C), ("choice", "A", "A thing happens.", U),
    ("choice", "C", "Answer: A\nno wait\nAnswer: C", C), ("choice", "D", "\\boxed{(D)}", C),
    ("set", "red, blue", "\\boxed{blue, red}", C), ("set", "{1, 2, 3}", "\\boxed{3, 2, 1}", C), ("set", "1, 2", "\\boxed{1, 2, 3}", W),
    ("set", "1, 2", "\\boxed{1}", W), ("set", "1, 2", "", U), ("set", "0.5, 2", "\\boxed{2, \\frac{1}{2}}", C),
]  # fmt: skip

ROWS = [
    *(("math", gold, f"So it is $\\boxed{{{box}}}$.", outcome) for gold, box, outcome in BOXED),
    *(("math", gold, text, outcome) for gold, text, outcome in TEXTS),
    *OTHERS,
]


@pytest.fixture(scope="module")
def outcomes():
    with Grader(workers=2) as grader:
        grades = grader.grade_many([(text, gold, kind) for kind, gold, text, _ in ROWS])
    return dict(zip(ROWS, grades, strict=True))


def test_there_are_enough_rows():
    assert len(set(ROWS)) >= 150


@pytest.mark.parametrize("row", ROWS, ids=[f"{k}-{g}-{t}"[:60] for k, g, t, _ in ROWS])
def test_outcome(outcomes, row):
    grade = outcomes[row]
    assert grade.outcome == row[-1], grade


def test_each_outcome_occurs():
    assert {row[-1] for row in ROWS} == {C, W, U}
