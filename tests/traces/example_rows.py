"""A few rows of each format, with the quirks of the real files, and what they must become.

(format, row, (prompt, cot, answer, gold, closed) or a reason)
"""

from __future__ import annotations

import json
from typing import Any

SYSTEM = "Your role as an assistant involves thoroughly exploring questions."


def thought(cot: str, answer: str) -> str:
    """The text of OpenThoughts, Bespoke-Stratos and Sky-T1."""
    return (
        f"<|begin_of_thought|>\n\n{cot}\n\n<|end_of_thought|>\n\n"
        f"<|begin_of_solution|>\n\n{answer}\n\n<|end_of_solution|>"
    )


def turns(*values: str, key: str = "from", text: str = "value") -> list[dict[str, str]]:
    """User and assistant in turn."""
    return [{key: ("user", "assistant")[n % 2], text: value} for n, value in enumerate(values)]


Q, C, A = "What is 6*7?", "6*7 is 42.\n\nWait, check: 42.", "The answer is \\boxed{42}."
GOOD = (Q, C, A, None, True)
KNOWN = (Q, C, A, "42", True)
INLINE = f"<think>\n{C}\n</think>\n\n{A}"

ROWS: list[tuple[str, dict[str, Any], Any]] = [
    ("sections", {"id": "r1", "prompt": Q, "cot": C, "answer_text": A, "gold": "42"}, KNOWN),
    ("sections", {"prompt": Q, "cot": C, "answer": A, "gold": 42}, KNOWN),
    ("sections", {"prompt": Q, "cot": f"<think>\n{C}\n</think>", "answer": A}, GOOD),
    ("sections", {"prompt": Q, "cot": C, "meta": {"closed": False}}, (Q, C, "", None, False)),
    ("sections", {"prompt": Q, "cot": f"\n {C}\n", "answer": A}, (Q, f"\n {C}\n", A, None, True)),
    ("sections", {"prompt": Q, "cot": None, "answer": A}, "missing:cot"),
    ("openthoughts", {"system": SYSTEM, "conversations": turns(Q, thought(C, A))}, GOOD),
    ("bespoke-stratos", {"conversations": json.dumps(turns(Q, thought(C, A)))}, GOOD),
    ("sky-t1", {"system": None, "conversations": turns(Q, f"{C} no tags")}, "no_marker"),
    (
        "sky-t1",
        {"conversations": [{"from": "human", "value": Q}, {"from": "gpt", "value": thought(C, A)}]},
        GOOD,
    ),
    (
        "openthoughts",
        {"conversations": {"from": ["user", "assistant"], "value": [Q, thought(C, A)]}},
        GOOD,
    ),
    (
        "openthoughts-metadata",
        {
            "problem": Q,
            "deepseek_reasoning": C,
            "deepseek_solution": A,
            "ground_truth_solution": "42",
            "domain": "math",
        },
        KNOWN,
    ),
    (
        "synthetic1",
        {
            "response_id": "x",
            "problem_id": "vm_1",
            "task_type": "verifiable_math",
            "prompt": Q,
            "llm_response": INLINE,
            "gold_standard_solution": None,
            "verification_info": '{"ground_truth": "42"}',
        },
        KNOWN,
    ),
    (
        "synthetic1",
        {
            "task_type": "verifiable_math",
            "prompt": Q,
            "llm_response": INLINE.removeprefix("<think>\n"),
            "gold_standard_solution": "42",
            "verification_info": "{}",
        },
        KNOWN,
    ),
    (
        "nemotron",
        {
            "input": [{"role": "user", "content": Q}],
            "output": INLINE,
            "category": "math",
            "reasoning": "on",
            "system_prompt": "detailed thinking on",
        },
        GOOD,
    ),
    ("nemotron", {"input": Q, "output": INLINE, "reasoning": "on"}, GOOD),
    ("nemotron", {"input": Q, "output": A, "reasoning": "off"}, "reasoning_off"),
    (
        "s1k",
        {"question": Q, "thinking_trajectories": [C], "attempt": A, "solution": "42"},
        KNOWN,
    ),
    (
        "s1k",
        {"question": Q, "thinking_trajectories": [], "attempt": A, "solution": "42"},
        "missing:thinking_trajectories",
    ),
    (
        "s1k-1.1",
        {
            "question": Q,
            "deepseek_thinking_trajectory": C,
            "deepseek_attempt": A,
            "gemini_thinking_trajectory": "other",
            "gemini_attempt": "other",
            "solution": "42",
        },
        KNOWN,
    ),
    (
        "limo",
        {"question": Q, "solution": f"{C}\n\n**Final Answer**\n\n\\boxed{{42}}", "answer": "42"},
        (Q, C, "**Final Answer**\n\n\\boxed{42}", "42", True),
    ),
    ("limo", {"question": Q, "solution": C, "answer": 42}, (Q, C, "42", "42", True)),
    (
        "openr1",
        {
            "problem": Q,
            "answer": "42",
            "solution": "short",
            "uuid": "u1",
            "generations": ["<think>bad</think>41", INLINE],
            "correctness_math_verify": [False, True],
            "messages": turns(Q, "<think>bad</think>41", key="role", text="content"),
        },
        KNOWN,
    ),
    (
        "openr1",
        {
            "problem": Q,
            "answer": "42",
            "generations": [INLINE],
            "correctness_math_verify": [False],
            "correctness_llama": None,
        },
        "no_correct_generation",
    ),
    ("messages", {"messages": turns(Q, INLINE, key="role", text="content")}, GOOD),
    (
        "messages",
        {
            "messages": [
                {"role": "user", "content": Q},
                {"role": "assistant", "content": A, "reasoning_content": C},
            ]
        },
        GOOD,
    ),
    (
        "messages",
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": Q}]},
                {
                    "role": "assistant",
                    "content": [{"type": "thinking", "thinking": C}, {"type": "text", "text": A}],
                },
            ]
        },
        GOOD,
    ),
    (
        "messages",
        {
            "messages": [
                {"role": "user", "content": Q},
                {"role": "assistant", "content": A, "thinking": C, "reasoning": None},
            ],
            "gold": "42",
        },
        KNOWN,
    ),
    (
        "messages",
        {"messages": turns("Hi", "Hello!", Q, INLINE, "Thanks", key="role", text="content")},
        GOOD,
    ),
    ("messages", {"messages": turns(Q, key="role", text="content")}, "no_assistant_turn"),
    (
        "mixture-of-thoughts",
        {
            "messages": turns(Q, INLINE, key="role", text="content"),
            "num_tokens": 42,
            "source": "open-r1/OpenR1-Math-220k",
        },
        GOOD,
    ),
    (
        "am",
        {
            "messages": [
                {"role": "user", "content": Q, "info": {"reference_answer": "42", "source": "x"}},
                {
                    "role": "assistant",
                    "content": f"<think>{C}</think><answer>{A}</answer>",
                    "info": {"think_content": C, "answer_content": A, "reference_answer": None},
                },
            ]
        },
        KNOWN,
    ),
    (
        "gpt-oss",
        {
            "reasoning_language": "French",
            "messages": [
                {"role": "system", "content": "reasoning language: French", "thinking": None},
                {"role": "user", "content": Q, "thinking": None},
                {"role": "assistant", "content": A, "thinking": C},
            ],
        },
        GOOD,
    ),
    (
        "gpt-oss",
        {
            "messages": [
                {"role": "user", "content": Q},
                {"role": "assistant", "channel": "analysis", "content": C},
                {"role": "assistant", "channel": "final", "content": A},
            ]
        },
        GOOD,
    ),
    (
        "gpt-oss",
        {
            "messages": [
                {"role": "user", "content": Q},
                {"role": "assistant", "channel": "analysis", "content": C},
            ]
        },
        (Q, C, "", None, False),
    ),
    (
        "dolphin-r1",
        {
            "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": Q}],
            "reasoning": C,
            "answer": A,
            "model": "deepseek-reasoner",
        },
        GOOD,
    ),
    ("openmath", {"problem": Q, "generated_solution": INLINE, "expected_answer": "42"}, KNOWN),
    (
        "openmath",
        {"problem": Q, "generated_solution": A, "expected_answer": "42", "inference_mode": "cot"},
        "no_marker",
    ),
    (
        "deepmath",
        {
            "question": Q,
            "final_answer": "42",
            "difficulty": 5.0,
            "r1_solution_1": INLINE,
            "r1_solution_2": "other",
            "r1_solution_3": "other",
        },
        KNOWN,
    ),
    ("alpaca", {"instruction": Q, "input": "", "output": INLINE}, GOOD),
    ("alpaca", {"instruction": Q, "output": INLINE}, GOOD),
    (
        "alpaca",
        {"instruction": "Multiply.", "input": "6 and 7", "output": INLINE},
        ("Multiply.\n\n6 and 7", C, A, None, True),
    ),
    ("alpaca", {"instruction": Q, "input": None, "output": A}, "no_marker"),
    (
        "openthoughts3",
        {
            "difficulty": 8,
            "source": "x",
            "conversations": [{"from": "human", "value": Q}, {"from": "gpt", "value": INLINE}],
        },
        GOOD,
    ),
    ("prompt_completion", {"prompt": Q, "completion": INLINE}, GOOD),
    (
        "prompt_completion",
        {
            "prompt": [{"role": "user", "content": Q}],
            "completion": [{"role": "assistant", "content": INLINE}],
        },
        GOOD,
    ),
]
