"""What is taken for a secret, and what is not."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orz_monitor.bundle.redaction import Redactor
from orz_monitor.bundle.shapes import PATTERNS, SIGNS

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
        "tokens: 4096",
        "tokens:\n  - 1\n  - 2",
        "max_tokens: 1024",
        "num_tokens: [1, 2]",
        "tokenizer:\n  name: hf-internal/tiny",
        "tokens/total: 5831",
        "api_tokens: 4096",
        "git_sha: 3fdd9a0c0ffee3fdd9a0c0ffee3fdd9a0c0ffee1",
        "wandb:\n  commit: 3fdd9a0c0ffee3fdd9a0c0ffee3fdd9a0c0ffee1\n  project: x",
        "key of the cache, of commit\n3fdd9a0c0ffee3fdd9a0c0ffee3fdd9a0c0ffee1",
        "blake3: af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        "docker run -p 8080:80 image",
        "env:\n  - name: LR\n    value: fast",
        "see https://example.org:8080/a@b and mail@x",
    ],
)
def test_what_is_no_secret_stays(line: str) -> None:
    """Numbers of tokens, names of tokenizers, commits, addresses without credentials."""
    redactor = Redactor()
    assert redactor.redact(line) == line
    assert redactor.counts.total() == 0


def test_every_pattern_has_its_signs() -> None:
    """A pattern without them would never be tried."""
    assert SIGNS.keys() == PATTERNS.keys()


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


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ("password:\n  - onepass\nlr: 1\n", ["onepass"]),
        ("password:\n- onepass\n- twopass\nlr: 1\n", ["onepass", "twopass"]),
        ("hub:\n  hf_tokens:\n    - abcdef123456\n  lr: 1\n", ["abcdef123456"]),
        ("api_keys: [aaa111bbb222, ccc333ddd444]\nlr: 1\n", ["aaa111bbb222", "ccc333ddd444"]),
        ("api_keys: [[aaa111], [ccc333]]\nlr: 1\n", ["aaa111", "ccc333"]),
        ("api_keys: [aaa111,\n  ccc333]\nlr: 1\n", ["aaa111", "ccc333"]),
        ("credentials:\n  user: me\n  deep:\n    word: hunter2\nlr: 1\n", ["hunter2"]),
        ('{\n  "hf_tokens": [\n    "abc123def"\n  ],\n  "lr: 1": 0\n}\n', ["abc123def"]),
        (
            "env:\n  - name: HF_TOKEN\n    value: plain7\n  - name: A\n    value: lr: 1\n",
            ["plain7"],
        ),
        ("env:\n  - value: plain1\n    name: HF_TOKEN\n  - name: A\n    value: lr: 1\n", ["plain1"]),
        ('  {\n    "name": "HF_TOKEN",\n    "value": "plainD"\n  }\nlr: 1\n', ["plainD"]),
        ("env:\n  - name: DB_PASSWORD\n    value: |\n      first\n      second\nlr: 1\n", ["first", "second"]),
        (f"wandb:\n  api: {KEY}\nlr: 1\n", [KEY]),
        (f"wandb:\n  login:\n    - {KEY}\nlr: 1\n", [KEY]),
        (f"API key:\n{KEY}\nlr: 1\n", [KEY]),
        (f"WANDB key: local-{KEY} lr: 1\n", [KEY]),
        ("using nvapi-abcdefghijklmnopqrstuvwxyz lr: 1\n", ["nvapi-a"]),
        ("using r8_abcdefghijklmnopqrstuvwxyz012 lr: 1\n", ["r8_a"]),
        ("using pypi-AgEIcHlwaS5vcmcCJDEyMzQ1 lr: 1\n", ["pypi-A"]),
        ('{"name": "HF_TOKEN", "value": "plainD", "lr: 1": 0}\n', ["plainD"]),
        ("AccountName=x;AccountKey=abcdef1234567890==;lr: 1\n", ["abcdef1234567890"]),
        ("https://bob:pw@ss@host/x lr: 1\n", ["pw", "ss@"]),
        ("url: https://user:pa/ss@host/path lr: 1\n", ["pa/", "ss@"]),
        ("MASTER_KEY:abcdef lr: 1\n", ["abcdef"]),
        ("docker login -u me -p hunter4 lr: 1\n", ["hunter4"]),
    ],
)
def test_secrets_by_what_stands_around_them(text: str, secrets: list[str]) -> None:
    """All that is below a secret name, beside it, or behind a line that speaks of a key; and nothing that follows."""
    shown = Redactor().redact(text)
    assert [] == [secret for secret in secrets if secret in shown]
    assert "lr: 1" in shown
    assert len(text.splitlines()) == len(shown.splitlines())
    assert shown == Redactor().redact(shown)


def test_many_secret_names_one_in_another_take_no_square_time() -> None:
    """Each line is looked at once, however deep it is."""
    lines = [f"{' ' * (number % 200)}password:\n" for number in range(40_000)]
    begun = time.process_time()
    assert len(lines) == Redactor().redact("".join(lines)).count("\n")
    assert time.process_time() - begun < 20


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
