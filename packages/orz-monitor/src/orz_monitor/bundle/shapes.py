"""Secrets that tell what they are: what tokens of services, addresses and keys look like.

detect-secrets has a longer list of services, brings pyyaml and requests, and knows neither Hugging Face's tokens nor
those of W&B, NVIDIA and Replicate, which logs of training hold.
"""

from __future__ import annotations

import re
from typing import Final

PATTERNS: Final = {
    "URL with a password": re.compile(r"(?<=://)[^\s/@:\"']{0,256}:(?!\d{1,5}(?:[/?#]|$))[^\s\"'<>]{1,256}(?=@)"),
    "URL with a token": re.compile(r"(?<=://)[^\s/@:\"']{16,256}(?=@)"),
    "signature in a URL": re.compile(
        r"(?<=[?&])(?:sig|signature|token|key|apikey|api_key|access_token|X-Amz-(?:Signature|Credential|Security-Token)"
        r"|X-Goog-Signature|Signature|AWSAccessKeyId)=[^\s&\"'<>]{4,2048}",
        re.IGNORECASE,
    ),
    "token of Hugging Face": re.compile(r"\bhf_[A-Za-z0-9]{20,}"),
    "token of GitHub": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,})"),
    "token of GitLab": re.compile(r"\bglpat-[\w-]{16,}"),
    "API key": re.compile(r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}|\bAIza[\w-]{30,}|\b(?:sk|rk)_live_\w{16,}"),
    "token of another service": re.compile(
        r"\b(?:nvapi-[\w-]{20,}|r8_[A-Za-z0-9]{20,}|pypi-[\w-]{16,}|npm_[A-Za-z0-9]{30,}"
        r"|SG\.[\w-]{16,}\.[\w-]{16,}|dckr_pat_[\w-]{16,}|dapi[0-9a-f]{32})"
    ),
    "key of AWS": re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "token of Slack": re.compile(r"\bxox[abeoprs]-[\w-]{10,}|(?<=hooks\.slack\.com/services/)[\w/]{10,}"),
    "hook of Discord": re.compile(r"(?<=discord\.com/api/webhooks/)\d{5,}/[\w-]{16,}"),
    "key of W&B": re.compile(
        r"(?<!commit )(?<!commit: )(?<!commit/)(?<!sha )(?<!sha: )(?<!sha=)(?<!commit=)"
        r"\b(?:local-|wandb_v1_)?[0-9a-f]{40}\b|(?<=wandb login )\S{16,}"
    ),
    "password of .netrc": re.compile(r"(?<=password )[0-9a-f]{40}\b"),
    "JSON web token": re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}"),
    "public key of a person": re.compile(r"\bssh-(?:rsa|ed25519|dss) [A-Za-z0-9+/=]{40,}"),
}
SIGNS: Final = {
    "URL with a password": ("://",),
    "URL with a token": ("://",),
    "signature in a URL": ("?", "&"),
    "token of Hugging Face": ("hf_",),
    "token of GitHub": ("gh", "github_pat_"),
    "token of GitLab": ("glpat-",),
    "API key": ("sk-", "pk-", "rk-", "AIza", "_live_"),
    "token of another service": ("nvapi-", "r8_", "pypi-", "npm_", "SG.", "dckr_pat_", "dapi"),
    "key of AWS": ("AKIA", "ASIA"),
    "token of Slack": ("xox", "hooks.slack.com"),
    "hook of Discord": ("discord",),
    "key of W&B": ("wandb", "WANDB", "W&B", "Wandb"),
    "password of .netrc": ("password ",),
    "JSON web token": ("eyJ",),
    "public key of a person": ("ssh-",),
}
"""What a line must hold for a pattern to be tried: most lines of a log hold nothing of it, and pass at once."""
