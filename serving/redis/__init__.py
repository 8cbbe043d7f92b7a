"""The way to Redis: one connection for commands and one for news, bounded in time and in number.

redis-py's own client will not do here. It retries and greets as it likes, and where the answer to EXEC is lost it says
WatchError, as if another had been quicker: whoever tries again then makes the change twice. So its connections are used
as they are, with RESP2, no retry and no greeting but AUTH and SELECT where the URL has a password or a database.
"""

from importlib.util import find_spec

from serving.errors import SettingsInvalid

if find_spec("redis") is None:
    raise SettingsInvalid("redis-py is not installed.", remedy="pip install 'tidegate[redis]'")
