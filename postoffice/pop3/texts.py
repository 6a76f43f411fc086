"""The texts of all POP3 replies, in every language."""

from __future__ import annotations

from postoffice.pop3.languages import Text

# -- what is well --------------------------------------------------------------

CAPABILITIES = Text(
    en="what postoffice can do",
    de="das kann postoffice",
    fr="ce que postoffice sait faire",
    es="lo que sabe hacer postoffice",
    ja="postoffice の機能一覧",
)
MESSAGES = Text(
    en="{messages} messages ({octets} octets)",
    de="Nachrichten: {messages} ({octets} Byte)",
    fr="messages : {messages} ({octets} octets)",
    es="mensajes: {messages} ({octets} octetos)",
    ja="メッセージ {messages} 通 ({octets} オクテット)",
)
OCTETS = Text(
    en="{octets} octets",
    de="{octets} Byte",
    fr="{octets} octets",
    es="{octets} octetos",
    ja="{octets} オクテット",
)
DELETED = Text(
    en="message {number} deleted",
    de="Nachricht {number} gelöscht",
    fr="message {number} supprimé",
    es="mensaje {number} eliminado",
    ja="メッセージ {number} を削除しました",
)
GOODBYE = Text(
    en="goodbye",
    de="auf Wiedersehen",
    fr="au revoir",
    es="hasta luego",
    ja="接続を終了します",
)
DELETED_GOODBYE = Text(
    en="{deleted} deleted, goodbye",
    de="gelöscht: {deleted}; auf Wiedersehen",
    fr="supprimés : {deleted} ; au revoir",
    es="eliminados: {deleted}; hasta luego",
    ja="{deleted} 通を削除しました。接続を終了します",
)
UTF8_ENABLED = Text(
    en="UTF8 enabled",
    de="UTF8 eingeschaltet",
    fr="UTF8 activé",
    es="UTF8 activado",
    ja="UTF8 を有効にしました",
)
LANGUAGES_FOLLOW = Text(
    en="languages follow",
    de="diese Sprachen gibt es",
    fr="langues disponibles",
    es="idiomas disponibles",
    ja="使用できる言語の一覧",
)
LANGUAGE = Text(
    en="replies are in English now",
    de="Antworten kommen jetzt auf Deutsch",
    fr="les réponses sont désormais en français",
    es="las respuestas serán ahora en español",
    ja="これ以降の応答は日本語です",
)
BEGIN_TLS = Text(
    en="begin TLS",
    de="TLS kann beginnen",
    fr="TLS peut commencer",
    es="puede comenzar TLS",
    ja="TLS を開始してください",
)

# -- what is wrong with a command ----------------------------------------------

UNKNOWN_COMMAND = Text(
    en="unknown command",
    de="unbekannter Befehl",
    fr="commande inconnue",
    es="orden desconocida",
    ja="不明なコマンドです",
)
NOT_IN_THIS_STATE = Text(
    en="not in this state",
    de="nicht in diesem Zustand",
    fr="pas dans cet état",
    es="no en este estado",
    ja="この状態では使えません",
)
NO_ARGUMENT = Text(
    en="this command takes no argument",
    de="dieser Befehl hat kein Argument",
    fr="cette commande ne prend pas d'argument",
    es="esta orden no lleva argumento",
    ja="このコマンドに引数はありません",
)
NUMBER_NEEDED = Text(
    en="a number is needed",
    de="es fehlt eine Zahl",
    fr="il faut un nombre",
    es="hace falta un número",
    ja="数値を指定してください",
)
NO_SUCH_MESSAGE = Text(
    en="no such message",
    de="diese Nachricht gibt es nicht",
    fr="ce message n'existe pas",
    es="no existe ese mensaje",
    ja="そのメッセージはありません",
)
NO_SUCH_LANGUAGE = Text(
    en="this language is not spoken here; LANG lists those that are",
    de="diese Sprache wird hier nicht gesprochen; LANG zeigt, welche es gibt",
    fr="cette langue n'est pas parlée ici ; LANG donne la liste",
    es="ese idioma no se habla aquí; LANG muestra los que hay",
    ja="その言語には対応していません。LANG で一覧を表示します",
)
LINE_TOO_LONG = Text(
    en="line too long",
    de="die Zeile ist zu lang",
    fr="ligne trop longue",
    es="línea demasiado larga",
    ja="行が長すぎます",
)
BARE_LINE_END = Text(
    en="a line has a CR only at its end, before LF",
    de="eine Zeile hat ein CR nur an ihrem Ende, vor LF",
    fr="une ligne n'a de CR qu'à sa fin, devant LF",
    es="una línea solo tiene un CR al final, antes de LF",
    ja="CR は行末の LF の前にのみ置けます",
)
OTHER_PROTOCOL = Text(
    en="this is POP3, and nothing else; closing the connection",
    de="dies ist POP3 und nichts anderes; die Verbindung wird geschlossen",
    fr="ceci est POP3 et rien d'autre ; la connexion est fermée",
    es="esto es POP3 y nada más; se cierra la conexión",
    ja="これは POP3 のみです。接続を閉じます",
)
TOO_MANY_ERRORS = Text(
    en="too many errors",
    de="zu viele Fehler",
    fr="trop d'erreurs",
    es="demasiados errores",
    ja="エラーが多すぎます",
)

TOO_MANY_COMMANDS = Text(
    en="too many commands without a login",
    de="zu viele Befehle ohne Anmeldung",
    fr="trop de commandes sans connexion",
    es="demasiados comandos sin iniciar sesión",
    ja="ログインせずに送られたコマンドが多すぎます",
)

# -- what is in the way of a login -----------------------------------------------

NAME_NEEDED = Text(
    en="USER needs a name",
    de="zu USER gehört ein Name",
    fr="USER demande un nom",
    es="USER necesita un nombre",
    ja="USER には名前が必要です",
)
USER_FIRST = Text(
    en="USER first",
    de="zuerst USER",
    fr="d'abord USER",
    es="primero USER",
    ja="先に USER を送ってください",
)
NOT_UTF8 = Text(
    en="names and passwords are in UTF-8",
    de="Namen und Passwörter stehen in UTF-8",
    fr="les noms et mots de passe s'écrivent en UTF-8",
    es="los nombres y contraseñas se escriben en UTF-8",
    ja="名前とパスワードは UTF-8 で送ってください",
)
WRONG_LOGIN = Text(
    en="wrong name or password",
    de="Name oder Passwort falsch",
    fr="nom ou mot de passe incorrect",
    es="nombre o contraseña incorrectos",
    ja="名前またはパスワードが違います",
)
DISABLED = Text(
    en="this account is disabled; ask your postmaster",
    de="dieses Konto ist gesperrt; bitte den Postmaster fragen",
    fr="ce compte est désactivé ; adressez-vous au postmaster",
    es="esta cuenta está desactivada; consulte al postmaster",
    ja="このアカウントは無効になっています。管理者に問い合わせてください",
)
TOO_MANY_TRIES = Text(
    en="too many wrong passwords lately; please try again later",
    de="zu viele falsche Passwörter in letzter Zeit; bitte später noch einmal versuchen",
    fr="trop de mots de passe incorrects ces derniers temps ; réessayez plus tard",
    es="demasiadas contraseñas incorrectas últimamente; inténtelo de nuevo más tarde",
    ja="最近、誤ったパスワードが多すぎます。後でもう一度お試しください",
)
TOO_SOON = Text(
    en="the last login was not long enough ago",
    de="die letzte Anmeldung ist noch nicht lange genug her",
    fr="la dernière connexion est trop récente",
    es="el último inicio de sesión es demasiado reciente",
    ja="前回のログインからまだ時間が経っていません",
)
IN_USE = Text(
    en="another session holds this maildrop",
    de="eine andere Sitzung hat dieses Postfach geöffnet",
    fr="une autre session occupe cette boîte",
    es="otra sesión tiene ocupado este buzón",
    ja="このメールボックスは別のセッションが使用中です",
)
TAKEN_OVER = Text(
    en="another login has taken over this maildrop",
    de="eine andere Anmeldung hat dieses Postfach übernommen",
    fr="une autre connexion a repris cette boîte",
    es="otro inicio de sesión ha tomado este buzón",
    ja="別のログインがこのメールボックスを引き継ぎました",
)
PRIVATE_LINK_ONLY = Text(
    en="logins are taken on an encrypted or a local link only",
    de="anmelden geht nur über eine verschlüsselte oder lokale Verbindung",
    fr="on ne se connecte que par un lien chiffré ou local",
    es="solo se puede iniciar sesión por un enlace cifrado o local",
    ja="ログインは暗号化された接続かローカル接続に限ります",
)
STLS_FIRST = Text(
    en="logins are taken on an encrypted or a local link only; say STLS first",
    de="anmelden geht nur über eine verschlüsselte oder lokale Verbindung; zuerst STLS",
    fr="on ne se connecte que par un lien chiffré ou local ; d'abord STLS",
    es="solo se puede iniciar sesión por un enlace cifrado o local; primero STLS",
    ja="ログインは暗号化された接続かローカル接続に限ります。先に STLS を送ってください",
)
USE_AUTH = Text(
    en="passwords are not taken here; use AUTH",
    de="Passwörter werden hier nicht angenommen; bitte AUTH benutzen",
    fr="les mots de passe ne sont pas acceptés ici ; utilisez AUTH",
    es="aquí no se aceptan contraseñas; use AUTH",
    ja="ここではパスワードを受け付けません。AUTH を使ってください",
)
USE_APOP = Text(
    en="passwords are not taken here; use APOP",
    de="Passwörter werden hier nicht angenommen; bitte APOP benutzen",
    fr="les mots de passe ne sont pas acceptés ici ; utilisez APOP",
    es="aquí no se aceptan contraseñas; use APOP",
    ja="ここではパスワードを受け付けません。APOP を使ってください",
)
TLS_ALREADY = Text(
    en="TLS has begun already",
    de="TLS hat schon begonnen",
    fr="TLS est déjà en cours",
    es="TLS ya está en curso",
    ja="TLS はすでに始まっています",
)
NO_TLS = Text(
    en="there is no TLS here",
    de="hier gibt es kein TLS",
    fr="TLS n'est pas disponible ici",
    es="aquí no hay TLS",
    ja="ここでは TLS を使えません",
)
STLS_BEFORE_UTF8 = Text(
    en="STLS comes before UTF8",
    de="STLS kommt vor UTF8",
    fr="STLS vient avant UTF8",
    es="STLS va antes que UTF8",
    ja="STLS は UTF8 より先に送ってください",
)
BEHIND_STLS = Text(
    en="nothing may stand behind STLS before TLS has begun",
    de="hinter STLS darf nichts stehen, bevor TLS begonnen hat",
    fr="rien ne peut suivre STLS avant le début de TLS",
    es="nada puede seguir a STLS antes de que comience TLS",
    ja="TLS が始まるまで STLS の後には何も送れません",
)
NO_APOP = Text(
    en="there is no APOP here: the greeting has no stamp",
    de="hier gibt es kein APOP: die Begrüßung hat keinen Stempel",
    fr="APOP n'est pas disponible ici : l'accueil ne porte pas d'horodatage",
    es="aquí no hay APOP: el saludo no lleva sello",
    ja="ここでは APOP を使えません。応答の冒頭にタイムスタンプがありません",
)
APOP_NEEDS = Text(
    en="APOP has a name and a digest",
    de="zu APOP gehören ein Name und eine Prüfsumme",
    fr="APOP demande un nom et une empreinte",
    es="APOP lleva un nombre y un resumen",
    ja="APOP には名前とダイジェストが必要です",
)
ANOTHER_MECHANISM = Text(
    en="another mechanism, please: CAPA tells which there are",
    de="bitte ein anderes Verfahren: CAPA sagt, welche es gibt",
    fr="un autre mécanisme, s'il vous plaît : CAPA en donne la liste",
    es="otro mecanismo, por favor: CAPA dice cuáles hay",
    ja="別の認証方式を使ってください。CAPA で一覧を表示します",
)
CANCELLED = Text(
    en="the login is cancelled",
    de="die Anmeldung ist abgebrochen",
    fr="la connexion est annulée",
    es="se ha cancelado el inicio de sesión",
    ja="ログインを中止しました",
)
NO_BASE64 = Text(
    en="that is no base64",
    de="das ist kein Base64",
    fr="ce n'est pas du base64",
    es="eso no es base64",
    ja="base64 ではありません",
)
MALFORMED = Text(
    en="that is no message of this mechanism",
    de="das ist keine Nachricht dieses Verfahrens",
    fr="ce n'est pas un message de ce mécanisme",
    es="eso no es un mensaje de este mecanismo",
    ja="この認証方式のメッセージではありません",
)

# -- what is in the way of the rest ------------------------------------------------

NOT_ALL_REMOVED = Text(
    en="{deleted} deleted; not all could be removed",
    de="gelöscht: {deleted}; nicht alle konnten entfernt werden",
    fr="supprimés : {deleted} ; tous n'ont pas pu être retirés",
    es="eliminados: {deleted}; no se han podido retirar todos",
    ja="{deleted} 通を削除しました。一部は削除できませんでした",
)
LATER = Text(
    en="a fault of ours; please try again later",
    de="ein Fehler bei uns; bitte später noch einmal versuchen",
    fr="une erreur de notre côté ; réessayez plus tard",
    es="un fallo nuestro; inténtelo de nuevo más tarde",
    ja="サーバー側の障害です。後でもう一度お試しください",
)
NEVER = Text(
    en="this cannot be done",
    de="das ist nicht möglich",
    fr="ce n'est pas possible",
    es="no es posible",
    ja="実行できません",
)
CLOSING = Text(
    en="the post office is closing",
    de="das Postamt schließt",
    fr="le bureau de poste ferme",
    es="la oficina de correos cierra",
    ja="サーバーを停止します",
)
