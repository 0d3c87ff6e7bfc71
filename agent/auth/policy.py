"""The settings that a token decision depends on, and how a decision looks.

Charter: plain data. The settings are those of the device model; ``agent.config`` fills them in.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.auth.cache import TokenCache
from agent.auth.token import ACCEPTED, Entry, WallTime, fold, same_group
from agent.core.facts import Token


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """Defaults are the factory's. ``max_id_length`` is that of the dialect in force (16-AUTH-11: 20 in
    1.6, 36 in 2.0.1): a longer token could never be reported."""

    local_pre_authorize: bool = False  # AuthCtrlr.LocalPreAuthorize
    local_authorize_offline: bool = True  # AuthCtrlr.LocalAuthorizeOffline
    offline_unknown: bool = False  # AuthCtrlr.OfflineTxForUnknownIdEnabled
    master_pass_group: str = ""  # AuthCtrlr.MasterPassGroupId
    cache_enabled: bool = True  # AuthCacheCtrlr.Enabled
    cache_life_time_s: int = 0  # AuthCacheCtrlr.LifeTime, 0 = entries do not age
    cache_disable_post_authorize: bool = False  # AuthCacheCtrlr.DisablePostAuthorize
    list_enabled: bool = True  # LocalAuthListCtrlr.Enabled
    list_disable_post_authorize: bool = False  # LocalAuthListCtrlr.DisablePostAuthorize
    max_id_length: int = 36

    def is_master_pass(self, group: str | None) -> bool:
        """C16: such a token only stops."""
        return same_group(group, self.master_pass_group)


class Source(enum.StrEnum):
    """What a decision rests on."""

    NOT_NEEDED = "not_needed"  # C02: no authorization asked for
    SITE = "site"  # the allow list of the configuration file
    LIST = "list"  # the CSMS's local list
    CACHE = "cache"
    CSMS = "csms"
    OFFLINE_UNKNOWN = "offline_unknown"  # C15
    POLICY = "policy"  # a rule of ours, whatever is known of the token
    SAME_TOKEN = "same_token"
    SAME_GROUP = "same_group"
    MASTER_PASS = "master_pass"


OF_THE_SITE = frozenset({Source.SITE, Source.NOT_NEEDED})
"""Starts that hold whatever the CSMS says."""


@dataclass(frozen=True, slots=True)
class Accept:
    """``group`` is the token's own, where known."""

    source: Source
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """``status`` is an OCPP 2.0.1 AuthorizationStatusEnumType, as the driver may be told."""

    status: str
    source: Source


@dataclass(frozen=True, slots=True)
class AskCsms:
    """Send Authorize; the answer goes to ``start_answered`` or ``stop_answered``. If none can be had,
    decide again with ``online`` False."""


Decision = Accept | Refuse | AskCsms


@dataclass(frozen=True, slots=True)
class Known:
    """An entry and where it was found."""

    entry: Entry
    source: Source  # SITE, LIST or CACHE


@dataclass(frozen=True, slots=True)
class Knowledge:
    """All that the station knows by itself at this moment.

    ``site`` (the configuration's allow list, good whatever the CSMS says) and ``local_list`` (the
    CSMS's) are keyed by folded text (``token.fold``)."""

    settings: AuthSettings
    cache: TokenCache
    now: WallTime
    online: bool
    local_list: Mapping[str, Entry] = field(default_factory=dict)
    site: Mapping[str, Entry] = field(default_factory=dict)

    def find(self, token: Token) -> Known | None:
        """16-AUTH-01, 02: the list goes before the cache; a disabled one is not consulted.

        Before both goes the site's own list, as long as its entry has not expired."""
        own = self.site.get(fold(token.id_token))
        if own is not None and own.fits(token) and own.status_at(self.now) == ACCEPTED:
            return Known(own, Source.SITE)
        if self.settings.list_enabled:
            listed = self.local_list.get(fold(token.id_token))
            if listed is not None and listed.fits(token):
                return Known(listed, Source.LIST)
        if self.settings.cache_enabled:
            cached = self.cache.lookup(token, self.now, self.settings.cache_life_time_s)
            if cached is not None:
                return Known(cached, Source.CACHE)
        return None
