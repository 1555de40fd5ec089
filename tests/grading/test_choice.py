# ruff: noqa: E501
"""Letters chosen among options: what is stated or boxed wins over what is mentioned."""

import pytest

from leadspan.grading.choice import find_choice, letter_of

CHOSEN = [
    ("The correct answer is B. Option A is wrong because it fails. Option D is wrong.", "B"),
    ("The answer is: I think it's J", 'J'), ("I am not sure", None), ("I am not sure which option is right.", None),
    ("答案：B", "B"), ("答案是B。", "B"), ("正确答案为（C）", "C"), ('{"answer": "B"}', 'B'),
    ('```json\n{"answer": "c", "why": "A is wrong"}\n```', 'C'), ("The answer is b.", "B"),
    ("The answer is (c)", "C"), ("Answer: A, C", None), ("\\boxed{A, C}", None), ("\\boxed{A and C}", None),
    ("\\boxed{b}", "B"), ("\\boxed{\\text{(B) } 12}", "B"), ("\\boxed{B: 12}", "B"),
    ("Let $A$ be the set and $B = 3$. The answer is C because D = 4.", "C"),
    ("The force is $F = ma$.\nAnswer: C", "C"), ("Option B is correct. Option D is not correct.", "B"),
    ("A is incorrect. B is the correct answer.", "B"), ("The correct option is **B**.", "B"),
    ("**Answer: (B)**", "B"), ("The answer is A or B", None), ("So the correct option is C", "C"), ("B) 42", None),
    ("Answer: J", "J"), ("I cannot say which", None), ("A thing happens.", None),
    ("Answer: A\nno wait\nAnswer: C", "C"), ("**B**", "B"), ("The answer is a bit complicated.", None),
    ("The answer is I.", "I"), ("The answer is (I).", "I"), ("\\boxed{I}", "I"), ("<answer>B</answer>", "B"),
    ("<answer>B. Ethanol</answer>", "B"), ("La respuesta es B", "B"), ("Die Antwort ist C.", "C"),
    ("La réponse est D.", "D"), ("Ответ: B", "B"), ("**Final Answer**\n\nD", "D"),
    ("The correct answer is:\n\n**B. Ethanol**", "B"),
    ("Correct choice: B\n\nA is wrong because it does not react.", "B"),
    ("The right answer is **(D)** because A fails.", "D"), ("The answer is $\\boxed{\\mathrm{D}}$", "D"),
    ("I choose C.", "C"), ("I would go with option B", "B"), ("the best choice is option (D).", "D"),
    ("Answer: **C) 5**", "C"), ("The answer should be B", "B"), ("\\boxed{\\text{Answer: B}}", "B"),
    ("The final answer is **C**. Options A and B are wrong.", "C"),
    ("My answer: D\n\nExplanation: A, B are out", "D"), ("Therefore, C is correct.", "C"),
    ("The answer isn't A; it's B.", None), ("答えはCです", "C"), ("故选：A", "A"),
    ("The answer is not A. The answer is C.", "C"), ("The answer is E=mc^2", None),
    ('The correct answer is "B"', 'B'), ("Answer - B", "B"), ("answer = B", "B"), ("\\boxed{None}", None),
    ("\\boxed{AB}", None), ("\\boxed{42}", None), ("The answer is option C", "C"),
    ("The answer to the question is B", "B"), ("The best answer is D: 5 m/s", "D"),
    ("Final Answer: The final answer is $C$. I hope it is correct.", "C"), ("A\n", "A"), ("(B)", "B"), ("b", "B"),
    ("Choice (E)", "E"), ("Thus, the correct choice is: $\\textbf{(A)}$", "A"),
    ("Answer: B (because A does not hold)", "B"), ("The answer is B, and A is wrong", "B"),
    ("The answer is D, since A, B and C fail.", "D"),
]  # fmt: skip
LETTERS = [
    ("B", "B"),
    ("(b)", "B"),
    ("B.", "B"),
    ("\\text{(B)}", "B"),
    ("B) 12", "B"),
    ("AB", None),
    ("12", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "letter"), CHOSEN, ids=[text[:50] for text, _ in CHOSEN])
def test_find_choice(text, letter):
    assert find_choice(text) == letter


@pytest.mark.parametrize(("text", "letter"), LETTERS)
def test_letter_of(text, letter):
    assert letter_of(text) == letter
