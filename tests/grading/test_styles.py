# ruff: noqa: E501
"""Ways in which one answer is written: (gold, completion, outcome), a row for each kind and its opposite."""

import json
from pathlib import Path

import pytest

from leadspan.grading import Grader

C, W, U = "correct", "wrong", "unparsed"
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "grading"
WRITTEN = Path(__file__).resolve().parents[1] / "data" / "written_golds.jsonl"

ROWS = [
    ("$9$", "Answer \\[ 9 \\]", C), ("$9$", "Answer \\boxed{9}", C), ("$9$", "Answer: $9$", C),
    ("$1/3$", "$\\frac 13$", C), ("$1000$", "$1{,}000$", C), ("$1000$", "$10^3$", C), ("1000.99", "1 000,99", C),
    ("1000.99", "-1000.99", W), ("-1000", "-1 000", C), ("1000000", "1 000 000", C), ("0.4", "0,4", C),
    ("1000.99", "$1,000.99", C), ("1.5", "the number is 1.5.", C), ("12", "12.", C), ("23", "It is 23, I think.", C),
    ("$\\{1,2,3\\}$", "$\\{3,2,1\\}$", C), ("$[0,1] \\cup [2,3]$", "$[2,3] \\cup [0,1]$", C),
    ("$\\{1\\} \\cup \\{2\\}$", "$\\{1,2\\}$", C), ("$\\emptyset$", "$\\varnothing$", C),
    ("$\\emptyset$", "$\\{\\}$", C), ("$\\emptyset$", "$\\{0\\}$", W), ("$\\{-10, 6\\}$", "-10, 6", C),
    ("$-10,6$", "$x=-10$ or $x=6$", C), ("$x=1$", "$1$", C), ("$(1,2)$", "$x \\in (1,2)$", C),
    ("$1 \\le x \\le 3$", "$[1,3]$", C), ("$1 < x \\le 3$", "$[1,3]$", W), ("$\\sqrt{2}$", "1.41421356", C),
    ("$\\sqrt{2}$", "1.41", W), ("$\\ln 2$", "$\\ln(2)$", C), ("$\\lfloor 3.7\\rfloor$", "$3$", C),
    ("$\\sin(\\pi/2)$", "$1$", C), ("$\\int_0^1 x dx$", "$\\frac12$", C), ("$\\sum_{i=1}^{3} i$", "$6$", C),
    ("$\\lim_{x\\to0}\\frac{\\sin x}{x}$", "$1$", C), ("$x=1, y=2$", "$(1,2)$", C),
    ("$(\\pm 1, 2)$", "$(1,2),(-1,2)$", C), ("$\\pm 3$", "$3,-3$", C), ("$\\pm 3$", "$\\{-3,3\\}$", C),
    ("$2:3$", "$\\frac{2}{3}$", C), ("$A=\\{1,2\\}$", "$\\{2,1\\}$", C), ("$x_1=1, x_2=2$", "$2, 1$", C),
    ("$11 \\text{ and } 13$", "$13, 11$", C), ("$\\frac{3}{4}\\pi$", "$\\frac{3\\pi}{4}$", C),
    ("$\\frac{3}{4}\\pi$", "$0.75\\pi$", C), ("$(-\\infty,2)$", "$(−∞, 2)$", C), ("$2^{n}-1$", "$2^n - 1$", C),
    ("$a_n=3^n$", "$3^n$", C), ("$f(x)=2x$", "$f(x) = 2 x$", C), ("$y=2x+3$", "$y = 3+2x$", C),
    ("$x^2+y^2=1$", "$y^2 = 1 - x^2$", C), ("$x^2+y^2=1$", "$x^2+y^2=2$", W),
    ("$\\frac{1}{2}$ or $\\frac13$", "$\\frac13, \\frac12$", C),
    ("$\\begin{bmatrix}1&2\\\\3&4\\end{bmatrix}$", "$\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}$", C),
    ("$\\begin{pmatrix}1\\\\2\\end{pmatrix}$", "The vector is $\\begin{pmatrix}1 \\\\ 3\\end{pmatrix}$", W),
    ("$\\begin{pmatrix}2&0\\\\0&2\\end{pmatrix}$", "$2\\begin{pmatrix}1&0\\\\0&1\\end{pmatrix}$", C),
    ("$\\langle 1,2,3 \\rangle$", "$(1,2,3)$", C), ("$1:2:3$", "$1:2:3$", C), ("$10\\%$", "$0.1$", C),
    ("$10\\%$", "10 percent", C), ("$90^\\circ$", "$90$ degrees", C), ("$5\\text{ cm}$", "$5\\text{ m}$", W),
    ("$500\\text{ cm}$", "$5\\text{ m}$", C), ("$5\\text{ cm}^2$", "$5\\text{ cm}$", W),
    ("$\\text{Tuesday}$", "Tuesday", C), ("$\\text{Tuesday}$", "The answer is Monday", W),
    ("$\\text{(B)}$", "$\\boxed{B}$", C), ("$(B)$", "The answer is (B).", C), ("12", "\\boxed{\\text{(D)}\\ 12}", C),
    ("D", "\\boxed{\\textbf{(D) }12}", C), ("\\text{(D)}", "\\boxed{\\text{D}}", C),
    ("C", "\\boxed{\\textbf{(D)}\\ 12}", W), ("$204_5$", "$\\boxed{204_{5}}$", C), ("$204_5$", "$204_6$", W),
    ("$204_5$", "$204$", C), ("52_8", "\\boxed{52_9}", W), ("52_8", "\\boxed{52_{\\text{eight}}}", C),
    ("902", "\\boxed{902 \\pmod{1000}}", C), ("$x \\equiv 3 \\pmod 7$", "\\boxed{3}", C),
    ("$3 \\pmod 7$", "$4\\pmod 7$", W), ("$n \\ge 3$", "\\boxed{n>3}", W), ("$\\{x \\mid x>3\\}$", "\\boxed{x>3}", C),
    ("$\\{x : 1<x<2\\}$", "$(1,2)$", C), ("$\\mathbb{R}$", "$(-\\infty,\\infty)$", C),
    ("$\\mathbb{R}\\setminus\\{0\\}$", "$x \\ne 0$", C), ("$(0,\\infty)$", "\\boxed{\\mathbb{R}^+}", C),
    ("$6.6\\times10^{-34}$", "$6.6 \\cdot 10^{-34}\\ \\mathrm{J\\,s}$", C), ("6.6e-34", "6.6e-35", W),
    ("5e-7", "\\boxed{0}", W), ("1e-8", "\\boxed{2e-8}", W), ("$\\frac{1}{3}$", "$0.\\overline{3}$", C),
    ("$0.1\\overline{6}$", "$\\frac16$", C), ("$\\frac13$", "$0.\\bar{3}$", C), ("$\\sqrt[3]{2}$", "$2^{1/3}$", C),
    ("$\\sqrt[3]{2}$", "∛2", C), ("$x^2+1$", "x²+1", C), ("$x^{10}$", "x¹⁰", C), ("$\\infty$", "∞", C),
    ("$-3$", "－３", C), ("12", "１２", C), ("$3,5$", "The answers are 3 and 5.", C),
    ("$3,5$", "The solutions are $x=3$ and $x=5$.", C), ("$3,5$", "\\boxed{3}, \\boxed{5}", C),
    ("$3,5$", "(a) $\\boxed{3}$\n\n(b) $\\boxed{5}$", C), ("5", "\\boxed{5}. Put your final answer in \\boxed{}.", C),
    ("$1331, 1728$", "$\\boxed{1331}$ and $\\boxed{1728}$", C), ("5", "\\boxed{3} is wrong. So \\boxed{5}", C),
    ("$3,5$", "Part (a): we compute that x is \\boxed{3}. This holds since we know it from before and it is clear.\nPart (b): now the second one we find to be \\boxed{5}.", C),
    ("$\\frac37$", "the result is \\frac{3}{7}.", C), ("$\\frac37$", "Therefore \\frac{3}{8} it is", U),
    ("$x \\ge 5$", "Thus $x \\ge 5$ is the solution.", C),
    ("$\\frac37$", "Hence, the total is $\\frac{3}{7}$. I checked it in 3 ways.", C),
    ("$2\\sqrt{3}$", "\\boxed{2\\sqrt{3} \\approx 3.46}", C), ("3.46", "\\boxed{2\\sqrt{3} \\approx 3.46}", C),
    ("$7$", "\\boxed{3+4=7}", C), ("7", "$$\\begin{aligned} x &= 3+4 \\\\ &= 7 \\end{aligned}$$", C),
    ("7", "\\begin{align*} x &= 3+4 \\\\ &= \\boxed{7} \\end{align*}", C), ("$-1$", "\\boxed{e^{i\\pi}}", C),
    ("$\\frac{\\sqrt3}{2}$", "\\boxed{\\cos 30^\\circ}", C), ("$i$", "\\boxed{\\sqrt{-1}}", C),
    ("$1-\\frac{\\pi}{4}$", "\\boxed{\\frac{4-\\pi}{4}}", C), ("$\\frac{a}{b}$", "\\boxed{a/b}", C),
    ("$(x-1)(x+1)$", "\\boxed{x^2-1}", C), ("$\\log_2 3$", "\\boxed{\\frac{\\ln 3}{\\ln 2}}", C),
    ("$\\log 2$", "\\boxed{\\log 2}", C), ("\\$5", "\\boxed{5}", C), ("5 dollars", "\\boxed{\\$5}", C),
    ("$5$ apples", "5", C), ("$x = 3$", "x = 3", C), ("$2$ hours", "\\boxed{120 \\text{ minutes}}", C),
    ("$2\\text{ hours}$", "\\boxed{120 \\text{ minutes}}", C), ("no solution", "\\boxed{\\text{No solution}}", C),
    ("$\\varnothing$", "\\boxed{\\text{no solution}}", C), ("yes", "\\boxed{Yes}", C),
    ("True", "\\boxed{\\text{False}}", W), ("$\\frac{2}{3}$", "\\boxed{\\frac23}", C),
    ("$-\\frac{2}{3}$", "\\boxed{\\frac{-2}{3}}", C), ("$\\frac{2}{3}", "\\boxed{\\frac{2}{3}}", C),
    ("$(2,3)$", "\\boxed{2,3}", C), ("$(2,3)$", "\\boxed{(3,2)}", W),
    ("$\\left(\\frac12, 3\\right]$", "\\boxed{(0.5,3]}", C), ("$[0,1]$", "\\boxed{0 \\leq x \\leq 1}", C),
    ("$k<-1$ or $k>1$", "\\boxed{(-\\infty,-1)\\cup(1,\\infty)}", C),
    ("$|k|>1$", "\\boxed{(-\\infty,-1)\\cup(1,\\infty)}", C), ("$x>1 \\text{ and } x<3$", "\\boxed{1<x<3}", C),
    ("$18\\pi$", "\\boxed{56.548668}", C), ("$2+\\sqrt{3}$", "\\boxed{\\sqrt3+2}", C), ("$p+q$", "\\boxed{q+p}", C),
    ("$(a,b)=(1,2)$", "\\boxed{a=1, b=2}", C), ("$a=1,b=2$", "\\boxed{b=1,a=2}", W),
    ("$x=\\frac{1\\pm\\sqrt5}{2}$", "\\boxed{\\frac{1+\\sqrt5}{2}, \\frac{1-\\sqrt5}{2}}", C),
    ("$x=\\frac{1\\pm\\sqrt5}{2}$", "\\boxed{\\frac{1+\\sqrt5}{2}}", W),
    ("2 \\frac{1}{3}", "\\boxed{\\frac{7}{3}}", C), ("1.5 \\times 10^3", "1500", C), ("1,500", "1500", C),
    ("$\\frac{n(n+1)}{2}$", "\\boxed{\\binom{n+1}{2}}", C), ("$n!$", "\\boxed{n \\cdot (n-1)!}", C),
    ("$2^{2005}$", "\\boxed{2^{2006}}", W), ("3x", "\\boxed{3y}", W), ("$x^3$", "\\boxed{x^2}", W),
    ("12:30", "\\boxed{12:30}", C), ("12:30 pm", "\\boxed{12:30}", C), ("3:30", "\\boxed{4:30}", W),
    ("\\frac{1}{2}, \\frac{1}{3}", "\\boxed{\\frac{1}{3}, \\frac{1}{2}}", C),
    ("\\text{Monday}, 5", "\\boxed{5, \\text{Monday}}", C), ('52_8', '\\boxed{52_9}', W),
    ('\\frac{1}{2004!}', '\\boxed{\\frac{1}{2006!}}', W), ('2^{-98}', '\\boxed{2^{-99}}', W),
    ('1.25e-7', '\\boxed{0}', W), ('6.6e-27', '\\boxed{6.6 \\times 10^{-27}}', C), ('540', '{"x"} no', U),
    ('{"ground_truth": "540"}', '\\boxed{540}', C), ('We add.\n#### 540', '\\boxed{540}', C),
    ('So it is $\\boxed{540}$ in all.', '\\boxed{540}', C), ("{'ground_truth': '540'}", '\\boxed{541}', W),
    ('3', 'Let $x$ be it.\n\n**Final Answer**\n\n$$3$$', C), ('3', '<answer>3</answer>', C),
    ('3', '<answer>\\boxed{3}</answer>', C), ('5', '$x = 3$ here. So in total he has 5 apples.', C),
    ('3', '\\boxed{5}\n\nFinal Answer: The final answer is $3$.', C),
    ('1128', '\\boxed{18\\text{ hours and }48\\text{ minutes}}', C), ('66 inches', '\\boxed{5 feet 6 inches}', C),
    ('2x+4y-3=0', '$\\boxed{y=-\\frac12 x+\\frac34}$.', C), ('4\\sqrt2', '$\\boxed{4\\sqrt(2)}$.', C),
    ('100,200', '$\\boxed{\\{200,100\\}}$.', C), ('4.5e33', '$\\boxed{4.5*10^33}$.', C),
    ('4.5e33', '$\\boxed{4.5 × 10^33}$.', C), ('4.5e33', '$\\boxed{4.5×10³³}$.', C), ('12.5', '$\\boxed{0.125}$.', W),
    ('7', '\\boxed{\\boxed{7}}', C), ('\\frac{22}{7}', '$\\boxed{\\frac{22}{7} \\approx 3.14}$.', C),
    ('3.14', '$\\boxed{\\frac{22}{7} \\approx 3.14}$.', C), ('902', '$\\boxed{902 (mod 1000)}$.', C),
    ('902', '$\\boxed{902 \\bmod 1000}$.', C), ('33', '$\\boxed{\\text{Answer: }33}$.', C),
    ('33', '$\\boxed{\\text{Answer: 33}}$.', C), ('42', 'The answer is \\boxed{42', U), ('42', '**Answer: 42**', C),
    ('42', '### Answer\n\n42', C), ('\\frac12', '\\boxed{P(X=1) = \\frac12}', C), ('12', '\\boxed{[ABC] = 12}', C),
    ('5', '\\boxed{|S| = 5}', C), ('40', '\\boxed{m\\angle A = 40^\\circ}', C),
    ('42', '\\boxed{\\text{Total} = 42}', C), ('42', '\\boxed{\\text{The total is } 42}', C),
    ('42', '\\boxed{\\text{Total: } 42}', C), ('33', '\\boxed{a+b+c=33}', C), ('5', '\\boxed{x^2 = 25}', W),
    ('12', '\\boxed{3 \\times 4 = 12}', C), ('12', '\\boxed{\\text{Area}=12\\text{ cm}^2}', C),
    ('5', '\\boxed{\\overline{AB} = 5}', C), ('5', '\\boxed{\\lvert AB\\rvert = 5}', C), ('-5', '$\\boxed{−5}$.', C),
    ('300000', '$\\boxed{3×10⁵}$.', C), ('x \\ge 5', '$\\boxed{x≥5}$.', C),
    ('10^{21}+1', '$\\boxed{1000000000000000000001}$.', C), ('10^{21}', '$\\boxed{1000000000000000000001}$.', W),
    ('100!', '$\\boxed{100 \\cdot 99!}$.', C), ('2^{100}', '$\\boxed{1267650600228229401496703205376}$.', C),
    ('0', '$\\boxed{10^{-30}}$.', W), ('1', '$\\boxed{1+10^{-20}}$.', W), ('5', 'The answer is 5 apples.', C),
    ('5', 'The answer is **five**.', W), ('7', 'Ans: 7', C), ('7', 'Therefore, 7 is the answer.', C),
    ('\\frac37', 'Thus, the value is \\(\\frac{3}{7}\\).', C), ('3/7', 'Final Answer: 3/7', C),
    ('3/7', 'Hence the probability equals 3/7.', C), ('7', 'Answer = 7', C), ('3,5', 'x = 3 or x = 5', C),
    ('5', 'So x is equal to 5', C), ('3,-3', 'The answer is x = 3 or x = -3.', C),
    ('3,5', 'The answer is 3 or 5.', C), ('\\frac37', '\\[\n\\frac{3}{7}\n\\]', C),
    ('7', 'Thus the answer is: 7.', C), ('7', 'My answer: 7', C), ('7', 'The result: 7', C),
    ('1000000', '$\\boxed{1\\ 000\\ 000}$.', C), ('52\\%', '$\\boxed{52 %}$.', C),
    ('12\\pi', '$\\boxed{12\\pi cm^2}$.', C), ('\\sqrt3', '$\\boxed{\\sqrt{3} m}$.', C),
    ('4.5', '$\\boxed{4 1/2}$.', C), ('5', '$\\boxed{5 \\text{ AM}}$.', C), ('5', '$\\boxed{5^{\\text{th}}}$.', C),
    ('12\\pi', '$\\boxed{12\\pi\\text{ square units}}$.', C), ('5', '$\\boxed{5\\text{ units}}$.', C),
    ('5', '$\\boxed{\\approx 5}$.', C), ('1/2', '$\\boxed{50\\%}$.', C),
    ('25', '$\\boxed{25\\text{ years old}}$.', C), ('10', '$\\boxed{\\$10\\text{ million}}$.', C),
    ('5', '$\\boxed{\\text{5 hours}}$.', C), ('5', '\\boxed{5}\\%', C),
    ('(-\\infty,-2)\\cup(3,\\infty)', '$\\boxed{(3,\\infty)\\cup(-\\infty,-2)}$.', C),
    ('(-2,3)', '$\\boxed{-2 \\le x \\le 3}$.', W), ('[2,\\infty)', '$\\boxed{a>2}$.', W),
    ('\\mathbb{R}', '$\\boxed{\\text{all real numbers}}$.', C), ('(-\\infty,2)', '$\\boxed{(-\\infty, 2]}$.', W),
    ('x=3,y=4', '$\\boxed{(3,4)}$.', C), ('x=3,y=4', '$\\boxed{(4,3)}$.', W), ('(3,4)', '$\\boxed{x=3,\\ y=4}$.', C),
    ('\\{1,2\\}', '$\\boxed{1, 2}$.', C), ('\\{1,2\\}', '$\\boxed{x=1 \\text{ or } x=2}$.', C),
    ('1 \\le x \\le 2', '$\\boxed{[1,2]}$.', C), ('x^2+y^2=4', '$\\boxed{x^2+y^2=5}$.', W),
    ('y=2x+1', '$\\boxed{2x - y + 1 = 0}$.', C), ('n=2', '$\\boxed{n=2}$.', C),
    ('(1,2),(3,4)', '$\\boxed{(3,4),(1,2)}$.', C), ('(1,2),(3,4)', '$\\boxed{\\{(1,2),(3,4)\\}}$.', C),
    ('(1,2),(3,4)', '$\\boxed{(1,2),(4,3)}$.', W), ('x<-2', '$\\boxed{(-\\infty,-2)}$.', C),
    ('\\{x\\in\\mathbb{R}\\mid x\\neq 2\\}', '$\\boxed{\\mathbb{R}\\setminus\\{2\\}}$.', C),
    ('\\{0\\}\\cup[1,2]', '$\\boxed{[1,2]\\cup\\{0\\}}$.', C), ('\\text{odd } n', '$\\boxed{\\text{odd }n}$.', C),
    ('a \\in (0,1)', '$\\boxed{0<a<1}$.', C), ('\\text{(C)}', '$\\boxed{\\text{C}}$.', C),
    ('12', '$\\boxed{\\text{(C) } 12}$.', C), ('C', '$\\boxed{\\textbf{(C)}\\ 12}$.', C),
    ('13', '$\\boxed{\\textbf{(C)}\\ 12}$.', W), ('\\frac12', '$\\boxed{\\text{(A)}\\ \\frac12}$.', C),
    ('12', '$\\boxed{(C) 12}$.', C), ('12', '$\\boxed{C) 12}$.', C), ('12', '$\\boxed{\\mathrm{(C)} \\, 12}$.', C),
    ('1,2,\\ldots,n', '$\\boxed{1,2,\\ldots,n}$.', C), ('1,2,...,n', '$\\boxed{1,2,\\dots,n}$.', C),
    ('5', '$\\boxed{5}$.', C), ('3:2', '$\\boxed{2:3}$.', W), ('12:00', '$\\boxed{12:00}$.', C),
    ('14+i', '$\\boxed{14-i}$.', W), ('e^{16}-1', '$\\boxed{e^{16}+1}$.', W),
    ('\\dfrac{\\pi}{2}', '$\\boxed{pi/3}$.', W), ('\\dfrac{\\pi}{2}', '$\\boxed{90^\\circ}$.', W),
    ('\\frac{3}{7}', 'Therefore the result is \\( \\dfrac{3}{7} \\) and we are done.', C),
    ('\\begin{pmatrix}1\\\\2\\end{pmatrix}', '$\\boxed{\\begin{bmatrix}1\\\\2\\end{bmatrix}}$.', C),
    ('\\begin{pmatrix}1&2\\end{pmatrix}', '$\\boxed{\\begin{pmatrix}1\\\\2\\end{pmatrix}}$.', W),
    ('1,2', '$\\boxed{\\begin{cases}x=1\\\\x=2\\end{cases}}$.', C),
    ('(1,2)', '$\\boxed{\\begin{cases}x=1\\\\y=2\\end{cases}}$.', C),
    ('(1,2)', '$\\boxed{\\begin{pmatrix}1\\\\2\\end{pmatrix}}$.', C),
    ('\\begin{vmatrix}1&2\\\\3&4\\end{vmatrix}', '$\\boxed{-2}$.', C), ('2\\sqrt{2}', '$\\boxed{2√2}$.', C),
    ('2\\sqrt{2}', '$\\boxed{√8}$.', C), ('\\frac{\\sqrt{2}}{2}', '$\\boxed{√2/2}$.', C),
    ('\\frac{1}{3}', '$\\boxed{1÷3}$.', C), ('x^2+1', '$\\boxed{x**2+1}$.', C),
    ('\\sqrt{x+1}', '$\\boxed{sqrt(x+1)}$.', C), ('\\frac{x}{y}', '$\\boxed{x/y}$.', C),
    ('3x^2', '$\\boxed{3*x^2}$.', C), ('3x^2', '$\\boxed{3x^3}$.', W), ('\\log_2 8', '$\\boxed{\\log_{2}{8}}$.', C),
    ('\\sin^2 x', '$\\boxed{1-\\cos^2 x}$.', C), ('\\text{Evelyn}', '$\\boxed{\\text{evelyn}}$.', C),
    ('\\text{Evelyn}', '$\\boxed{\\text{Briana}}$.', W), ('\\text{July 4}', '$\\boxed{\\text{July 5}}$.', W),
    ('5', '{"answer": 5}', C), ('5', '```\n5\n```', C),
    ('\\frac{1}{2}', '\\boxed{\\frac{1}{2}}\n\nPlease put your final answer in \\boxed{}.', C),
    ('5', '\\boxed{ }', U), ('7', '\\boxed{7} (see also \\boxed{...})', C),
    ('-2,3', 'The solutions are \\boxed{-2} and \\boxed{3}.', C),
    ('3', 'The solutions are \\boxed{-2} and \\boxed{3}.', W),
    ('3', 'We tried \\boxed{2}, but it fails, hence \\boxed{3}.', C), ('1,234', '$\\boxed{1234}$.', C),
    ('1,234,567', '$\\boxed{1 234 567}$.', C), ('0.5', '$\\boxed{0,5}$.', C), ('1/3', '$\\boxed{0.33}$.', W),
    ('16', '$\\boxed{16.0}$.', C), ('\\frac{10}{4}', '$\\boxed{2.5}$.', C), ('2.5', '$\\boxed{2 \\frac{1}{2}}$.', C),
    ('-\\frac12', '$\\boxed{-0.5}$.', C), ('9', '$\\boxed{3^2}$.', C),
    ('\\frac{1}{\\sqrt2}', '$\\boxed{\\frac{\\sqrt2}{2}}$.', C), ('0.000000125', '$\\boxed{1.25\\times10^{-7}}$.', C),
    ('1.25e-7', '$\\boxed{1.26e-7}$.', W), ('123456', '$\\boxed{123457}$.', W),
    ('0.123456', '$\\boxed{0.123457}$.', W),
]  # fmt: skip


@pytest.fixture(scope="module")
def grader():
    with Grader(workers=1) as grader:
        yield grader


@pytest.mark.parametrize(
    ("gold", "completion", "outcome"), ROWS, ids=[f"{g}-{c}"[:60] for g, c, _ in ROWS]
)
def test_outcome(grader, gold, completion, outcome):
    grade = grader.grade(completion, gold)
    assert grade.outcome == outcome, grade


def test_several_golds_any_of_which_counts(grader):
    assert grader.grade("\\boxed{x+1}", ["2x", "1+x"]).outcome == C
    assert grader.grade("\\boxed{x+3}", ["2x", "1+x"]).outcome == W


def read_golds_file():
    return [json.loads(line)["gold"] for line in WRITTEN.read_text(encoding="utf-8").splitlines()]


def test_a_gold_is_right_boxed_and_in_a_sentence(grader):
    for sentence in (
        "So $\\boxed{{}}$.",
        "Therefore the result is ${}$.",
        "We find\n\\[ {} \\]",
        "<answer>{}</answer>",
    ):
        for gold in read_golds_file():
            text = sentence.replace("{}", "{" + gold + "}" if "boxed" in sentence else gold)
            assert grader.grade(text, gold).outcome == C, (text, gold)


def test_a_gold_with_another_digit_is_wrong(grader):
    changed = [
        (gold[:place] + str((int(mark) + 1) % 10) + gold[place + 1 :], gold)
        for gold in read_golds_file()
        for place, mark in enumerate(gold)
        if mark in "0123456789"
    ]
    assert len(changed) > 500
    grades = grader.grade_many(
        [(f"So $\\boxed{{{mutant}}}$.", gold, "math") for mutant, gold in changed]
    )
    accepted = [pair for pair, grade in zip(changed, grades, strict=True) if grade.is_correct]
    assert not accepted


@pytest.mark.parametrize("name", ["public_cases", "answer_styles"])
def test_shared_tables(grader, name):
    path = SHARED / f"{name}.jsonl"
    if not path.is_file():
        pytest.skip("../shared/data is not there")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    grades = grader.grade_many(
        [(row["completion"], row["gold"], row.get("kind", "math")) for row in rows]
    )
    wanted = [row.get("outcome") or (C if row["correct"] else "not correct") for row in rows]
    pairs = list(zip(wanted, grades, strict=True))
    agreeing = sum(
        grade.outcome == want or (want == "not correct" and not grade.is_correct)
        for want, grade in pairs
    )
    assert agreeing >= 0.98 * len(rows)
    assert sum(grade.is_correct and want != C for want, grade in pairs) <= 1
