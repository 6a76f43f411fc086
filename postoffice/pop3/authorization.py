"""The AUTHORIZATION state (RFC 1939 §4): who is it?"""

from __future__ import annotations

from postoffice.errors import LoginRefused, PostOfficeError
from postoffice.pop3 import texts
from postoffice.pop3.dialogue import No, POP3Dialogue
from postoffice.pop3.questions import Enter, Entered
from postoffice.pop3.speech import check_utf8
from postoffice.pop3.terms import POP3Limits, Terms
from postoffice.sasl import PasswordClaim, Prove


class Authorization(POP3Dialogue):
    """How a client gets in."""

    def __init__(self, terms: Terms, limits: POP3Limits) -> None:
        super().__init__(terms, limits)
        self._failed_logins = 0
        self._user: bytes | None = None

    def _user_name(self, argument: bytes) -> None:
        self._may_log_in()
        if not argument:
            raise No(texts.NAME_NEEDED)
        check_utf8(argument)
        self._user = argument
        self._say(b"+OK")  # whoever it is (RFC 1939 §13)

    def _pass(self, argument: bytes) -> None:
        """The rest of the line is the password, spaces and all (RFC 1939 §7)."""
        self._may_log_in()
        if self._user is None:
            raise No(texts.USER_FIRST)
        check_utf8(argument)
        self._ask(Prove(PasswordClaim(self._user, argument), "USER"))
        self._user = None

    def _may_log_in(self) -> None:
        if not self.terms.passwords:
            raise No(texts.PRIVATE_LINK_ONLY, "SYS/PERM")

    def _refuse_login(self, failure: PostOfficeError) -> None:
        """What failed for now may be tried again; the rest is counted."""
        self._fail(failure)
        if isinstance(failure, LoginRefused):
            self._failed_logins += 1
            if self._failed_logins >= self._limits.logins:
                self._close()

    def _answered_prove(self, question: Prove, answer: PostOfficeError | None) -> None:
        if answer is None:
            self._ask(Enter())
        else:
            self._refuse_login(answer)

    def _answered_enter(self, question: Enter, answer: Entered | PostOfficeError) -> None:
        if isinstance(answer, PostOfficeError):
            return self._refuse_login(answer)
        self.terms = answer.terms
        self.state = "transaction"
        return self._begin(answer.listing)
