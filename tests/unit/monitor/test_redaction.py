"""What is taken for a secret, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orz_monitor.bundle.redaction import _PATTERNS, _SIGNS, Redactor

pytestmark = pytest.mark.unit

SECRET = "Zm9vYmFyYmF6cXV4MTIzNDU2"  # noqa: S105 - made up


@pytest.mark.parametrize(
    "line",
    [
        f"api_key: {SECRET}",
        f'"WANDB_API_KEY": "{SECRET}",',
        f"export HF_TOKEN={SECRET}",
        f"trainer.hub_token={SECRET} trainer.lr=1e-6",
        f"Authorization: Bearer {SECRET}",
        f"'password': '{SECRET} with spaces',",
        f"python train.py --wandb-api-key {SECRET}",
        f"git clone https://user:{SECRET}@example.org/x.git",
        f"git clone https://{SECRET}@example.org/x.git",
        f"GET https://bucket.example.org/x?X-Amz-Signature={SECRET}&a=1",
        f"logged in with hf_{SECRET}",
        f"ghp_{SECRET}",
        f"using sk-{SECRET}",
        f"https://hooks.slack.com/services/T0/B0/{SECRET}",
        f"aws_secret_access_key = {SECRET}",
        f"token: {SECRET}",
        f'connection_string="postgres://user:pw@db.example.org/x?password={SECRET}"',
        f"eyJhbGciOiJI.eyJzdWIiOiIx.{SECRET}",
        f"MASTER_PASS: {SECRET}",
        f"export SSHPASS='{SECRET}'",
        f"PGPASSWORD={SECRET} psql",
        f"db_pass={SECRET}",
        f'train.py --password "with spaces {SECRET}" --lr 1e-6',
        f"userPassword: {SECRET}",
        f"MYSQL_PASSWD={SECRET}",
        f"curl -u admin:{SECRET} https://example.org",
        f"curl --proxy-user 'admin:{SECRET}' https://example.org",
        f'["curl", "-u", "admin:{SECRET}"]',
        f'curl -H "Authorization: Negotiate {SECRET}" https://example.org',
        f'Authorization: Digest username="admin", response="{SECRET}"',
    ],
)
def test_secrets_are_left_out(line: str) -> None:
    """Of settings, commands, headers, addresses, and tokens that tell what they are."""
    redactor = Redactor()
    shown = redactor.redact(line + "\n")
    assert SECRET not in shown
    assert "[redacted: " in shown
    assert shown.endswith("\n")
    assert redactor.counts.total() >= 1


@pytest.mark.parametrize(
    ("line", "shown", "kinds"),
    [
        (
            f"Authorization: Bearer sk-{SECRET} for all",
            "Authorization: [redacted: value of a secret setting] for all",
            {"value of a secret setting": 1},
        ),
        (
            f'{{"hub_token": "hf_{SECRET}", "seed": 1}}',
            '{"hub_token": "[redacted: token of Hugging Face]", "seed": 1}',
            {"token of Hugging Face": 1},
        ),
        (
            f"curl -u admin:{SECRET} -o x",
            "curl -u admin:[redacted: value of a secret setting] -o x",
            {"value of a secret setting": 1},
        ),
        (
            f'dsn="postgres://user:{SECRET}@db.example.org/x" seed=1',
            'dsn="[redacted: value of a secret setting]" seed=1',
            {"value of a secret setting": 1},
        ),
    ],
)
def test_a_secret_within_another_is_marked_once(line: str, shown: str, kinds: dict[str, int]) -> None:
    """What stands around it stays as it was, and a mark is not taken for a secret."""
    redactor = Redactor()
    assert redactor.redact(line) == shown
    assert redactor.counts == kinds
    assert redactor.redact(shown) == shown


KEY = "0123456789abcdef0123456789abcdef01234567"  # made up


@pytest.mark.parametrize(
    "line",
    [
        f"wandb: logged in key {KEY}",
        f"wandb: Using key {KEY} of ~/.netrc",
        f"{KEY} is the key of wandb",
        f"machine api.wandb.ai login user password {KEY}",
        f"  password {KEY}",
    ],
)
def test_keys_of_wandb_are_left_out_wherever_they_stand(line: str) -> None:
    """They are forty hexadecimal digits, as are commits, which are no secret."""
    assert KEY not in Redactor().redact(line)
    assert KEY in Redactor().redact(f"wandb: commit {KEY}")
    assert KEY in Redactor().redact(f"git checkout {KEY}")


@pytest.mark.parametrize(
    "line",
    [
        "max_tokens_per_row: 8192",
        "tokenizer: hf-internal/tiny",
        "pad_token: <|endoftext|>",
        "eos_token=</s>",
        "tokens/trained 5831.0",
        '{"tokens/per_second": 812.5, "token": null}',
        "token: 151643",
        "password: ${DB_PASSWORD}",
        "https://example.org:8080/path?a=1&b=2",
        "commit 3fdd9a0c0ffee3fdd9a0c0ffee3fdd9a0c0ffee1",
        "someone@example.org",
        "step:12 - actor/entropy:0.52 - critic/score/mean:0.41",
        "secretary: yes please",
        "forward_pass: 0.0123 s",
        "PASS: tests/test_it.py",
        "docker run --user 1000:1000 image",
        "python -u train.py --lr 1e-6",
        "Authorization: Bearer ${TOKEN}",
    ],
)
def test_what_is_no_secret_stays(line: str) -> None:
    """Numbers of tokens, names of tokenizers, commits, addresses without credentials."""
    redactor = Redactor()
    assert redactor.redact(line) == line
    assert redactor.counts.total() == 0


def test_every_pattern_has_its_signs() -> None:
    """A pattern without them would never be tried."""
    assert _SIGNS.keys() == _PATTERNS.keys()


def test_secrets_of_many_lines() -> None:
    """A private key in a log, a block of text in YAML; lines keep their numbers."""
    key = "before\n-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNz\naC1rZXk=\n-----END OPENSSH PRIVATE KEY-----\nafter\n"
    shown = Redactor().redact(key)
    assert "b3BlbnNz" not in shown
    assert "aC1rZXk=" not in shown
    assert shown.splitlines()[0::5] == ["before", "after"]
    block = "a: 1\nkeys:\n  api_key: |\n    first\n\n    second\n  other: 2\n"
    shown = Redactor().redact(block)
    assert "first" not in shown
    assert "second" not in shown
    assert shown.splitlines()[-1] == "  other: 2"
    assert len(shown.splitlines()) == len(block.splitlines())


def test_emails_on_request() -> None:
    """Kept by default."""
    assert Redactor(emails=True).redact("mail a.b+c@example.org now") == "mail [redacted: e-mail address] now"


@given(text=st.text(max_size=300))
def test_any_text_is_redacted_line_by_line(text: str) -> None:
    """The number of lines stays, and redacting twice changes nothing."""
    once = Redactor().redact(text)
    assert len(once.splitlines()) == len(text.splitlines())
    assert Redactor().redact(once) == once


@pytest.mark.parametrize("unit", ["a_", "token", "key=", "://", "a@", '"', "-----BEGIN ", "eyJ", "secret_", " "])
def test_hostile_lines_are_capped(unit: str) -> None:
    """A line of many characters is cut, whatever it repeats."""
    shown = Redactor().redact(unit * (200_000 // len(unit)))
    assert len(shown) < 100_000
