"""What the token decisions take from configuration and settings.

Charter: the one place where device-model variables meet ``agent.auth``. Pure.
"""

from __future__ import annotations

from agent.auth.policy import AuthSettings
from agent.auth.token import ACCEPTED, Entry, fold
from agent.config.catalogue import key
from agent.config.device_model import DeviceModel
from agent.config.model import Config


def auth_settings(model: DeviceModel, max_id_length: int) -> AuthSettings:
    """The settings in force; ``max_id_length`` is 20 while the dialect is 1.6, else 36."""
    return AuthSettings(
        local_pre_authorize=model.boolean(key("AuthCtrlr.LocalPreAuthorize")),
        local_authorize_offline=model.boolean(key("AuthCtrlr.LocalAuthorizeOffline")),
        offline_unknown=model.boolean(key("AuthCtrlr.OfflineTxForUnknownIdEnabled")),
        master_pass_group=model.text(key("AuthCtrlr.MasterPassGroupId")),
        cache_enabled=model.boolean(key("AuthCacheCtrlr.Enabled")),
        cache_life_time_s=model.integer(key("AuthCacheCtrlr.LifeTime")),
        cache_disable_post_authorize=model.boolean(key("AuthCacheCtrlr.DisablePostAuthorize")),
        list_enabled=model.boolean(key("LocalAuthListCtrlr.Enabled")),
        list_disable_post_authorize=model.boolean(key("LocalAuthListCtrlr.DisablePostAuthorize")),
        max_id_length=max_id_length,
    )


def site_list(config: Config) -> dict[str, Entry]:
    """The ``[[token]]`` tables as ``agent.auth`` wants them, by folded text."""
    return {
        fold(token.id): Entry(
            ACCEPTED,
            token.group,
            None if token.expires is None else int(token.expires.timestamp() * 1_000),
            token.type.value,
        )
        for token in config.token
    }
