"""How the admin writes times: as the dashboard does, and with their zone."""

DATE_FORMAT = "Y-m-d"
TIME_FORMAT = "H:i:s"
DATETIME_FORMAT = SHORT_DATETIME_FORMAT = "Y-m-d H:i:s e"
SHORT_DATE_FORMAT = "Y-m-d"
