"""Posts a message and collects it: python3 post_and_collect.py ACCOUNT PASSWORD"""

import poplib
import smtplib
import sys
from email.message import EmailMessage

account, password = sys.argv[1:3]
smtp_port, pop3_port = (int(port) for port in sys.argv[3:5] or (2525, 2110))

message = EmailMessage()
message["From"] = "me@example.org"
message["To"] = account
message["Subject"] = "hello"
message.set_content("How are you?\n")
with smtplib.SMTP("127.0.0.1", smtp_port) as smtp:
    smtp.send_message(message)

pop3 = poplib.POP3("127.0.0.1", pop3_port)
pop3.user(account)
pop3.pass_(password)
count, octets = pop3.stat()
print(count, "messages,", octets, "octets")
for number in range(1, count + 1):
    _, lines, _ = pop3.retr(number)
    print(b"\n".join(lines).decode(errors="replace"))
    pop3.dele(number)
pop3.quit()  # now they are gone
