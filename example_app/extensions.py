"""The extensions, made once and bound to an app by the factory. Imports nothing of the features."""

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from flask_sqlalchemy import SQLAlchemy
from flask_wtf import CSRFProtect
from sqlalchemy.orm import DeclarativeBase, registry

from example_app.columns import Money, UtcDateTime
from flask_signals_kit import SignalsKit


class Base(DeclarativeBase):
    """Say which columns the annotations of the models mean."""

    registry = registry(type_annotation_map={Decimal: Money, datetime: UtcDateTime})


kit = SignalsKit()
db = SQLAlchemy(model_class=Base)
csrf = CSRFProtect()

if TYPE_CHECKING:
    # `db.Model` is made at run time, where type checkers cannot look.
    class Model(Base):
        """A model of the app's database."""

else:
    Model = db.Model
