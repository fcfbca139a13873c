//! Which rules are understood, and what they allow.

use super::super::commands::find;
use super::*;

/// SHA-256 of `secret`.
const SECRET: &str = "#2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

fn users(text: &str) -> Users {
    Users::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The user of one line without its name.
fn user(rules: &str) -> Arc<User> {
    let users = users(&format!("user somebody {rules}"));
    Arc::clone(users.named(b"somebody").expect("it is there"))
}

/// Whether a user with these rules may send a line.
fn may(rules: &str, line: &str) -> bool {
    let words: Vec<Bytes> = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
    let command = find(&words[0]).expect("it is in the table");
    command.check_arity(&words[1..]).unwrap_or_else(|error| panic!("{line}: {error:?}"));
    user(rules).check(command, &words[1..]).is_ok()
}

fn problem(text: &str) -> String {
    Users::parse(text.as_bytes()).expect_err("it is refused").to_string()
}

#[test]
fn a_file_of_redis_is_understood() {
    // Written by ACL SAVE of Redis 7, but for the comment.
    let text = format!(
        "# users\n\
         user default off sanitize-payload resetchannels -@all\n\
         user app on sanitize-payload {SECRET} ~app:* &* -@all +@read +@write -flushall\r\n\
         \n\
         user operator on nopass skip-sanitize-payload ~* &* +@all\n"
    );
    let users = users(&text);
    assert_eq!(users.len(), 3);
    assert!(users.anonymous().is_none());
    assert!(users.log_in(b"app", b"secret").is_some());
    assert!(users.log_in(b"app", b"Secret").is_none());
    assert!(users.log_in(b"operator", b"anything").is_some(), "it needs no password");
    assert!(users.log_in(b"default", b"").is_none(), "it is switched off");
    assert!(users.log_in(b"nobody", b"secret").is_none());
    assert!(users.log_in(b"app", &vec![b'x'; MAX_PASSWORD_BYTES + 1]).is_none());
    let lines: Vec<String> = users.all().map(User::in_words).collect();
    assert_eq!(
        lines,
        [
            format!("user app on {SECRET} ~app:* -@all +@read +@write -flushall"),
            String::from("user default off -@all"),
            String::from("user operator on nopass ~* +@all"),
        ]
    );
}

#[test]
fn a_user_who_is_not_in_the_file_does_not_exist() {
    let users = users("user app on nopass ~* +@all");
    assert!(users.anonymous().is_none(), "not even default");
    assert!(Users::default().is_empty() && Users::default().anonymous().is_none());
    let users = Users::parse(b"user default on nopass -@all +ping").expect("it is in order");
    assert_eq!(users.anonymous().expect("it needs no password").user.name, "default");
}

#[test]
fn rules_about_commands_apply_in_their_order() {
    assert!(!may("~*", "get a") && may("~* +get", "get a") && !may("~* +get", "set a 1"));
    assert!(may("allkeys allcommands", "flushall") && !may("~* +@all -@dangerous", "flushall"));
    assert!(may("~* +@read", "mget a b") && may("~* +@read", "scan 0") && !may("~* +@read", "incr a"));
    assert!(may("~* +@write", "incr a") && !may("~* +@write", "get a"));
    assert!(may("~* +@all -get +GET", "get a") && !may("~* +get -@string", "get a"));
    assert!(!may("~* +@all reset ~*", "get a") && !may("~* +@all nocommands", "ping"));
    assert!(may("+@list +@connection", "ping"), "a category of commands that are not here is empty");
}

#[test]
fn subcommands_have_rules_of_their_own() {
    assert!(may("+@all -@admin", "client setname a") && !may("+@all -@admin", "client list"));
    assert!(!may("+@all -@admin", "config get save") && !may("+@all -@admin", "acl list"));
    assert!(may("+@all -@admin", "acl whoami"));
    assert!(may("+client|id", "client id") && !may("+client|id", "client list"));
    assert!(may("+client -client|list", "client id") && !may("+client -client|list", "client list"));
}

#[test]
fn keys_are_those_of_the_patterns() {
    let app = "+@all ~app:* ~one";
    assert!(may(app, "get app:1") && may(app, "set one 1") && !may(app, "get one1") && !may(app, "get ap"));
    assert!(
        !may(app, "mget app:1 other") && !may(app, "mset app:1 1 other 2") && may(app, "mset app:1 1 one x")
    );
    assert!(may(app, "incrby app:1 5"), "a number is no key");
    assert!(may(app, "dbsize"), "a command without keys");
    assert!(may("+@all ~app:* resetkeys ~b*", "get b") && !may("+@all ~app:* resetkeys ~b*", "get app:1"));
}

#[test]
fn patterns_are_for_reading_or_writing() {
    let rules = "+@all %R~read:* %W~write:* %rw~both:*";
    assert!(may(rules, "get read:1") && !may(rules, "set read:1 x") && !may(rules, "del read:1"));
    assert!(may(rules, "set write:1 x") && !may(rules, "get write:1") && may(rules, "del write:1"));
    for line in ["incr write:1", "getset write:1 x", "getdel write:1", "set write:1 x get", "incr read:1"] {
        assert!(!may(rules, line), "{line} reads and writes");
        let line = line.replace("write:", "both:").replace("read:", "both:");
        assert!(may(rules, &line), "{line}");
    }
}

#[test]
fn what_is_not_understood_is_refused_with_its_line_and_without_secrets() {
    for (text, expected) in [
        ("\nusr a on", "line 2: a line must begin with 'user'"),
        ("user", "line 1: the name of the user is missing"),
        ("user a on\nuser a off", "line 2: user 'a' is given twice"),
        ("user a on hunter2", "line 1: rule 2 of user 'a': it is no rule"),
        ("user a #hunter2", "rule 1 of user 'a': the hash of a password must be 64 hexadecimal digits"),
        ("user a <hunter2", "the password to remove is none of the user's"),
        ("user a +hget", "there is no command 'hget' here"),
        ("user a +get|x", "there is no command 'get|x' here"),
        ("user a +client|kill|x", "there is no command 'client|kill|x' here"),
        ("user a -@all -@everything", "there is no category '@everything'; there are @all @keyspace"),
        ("user a ~a?c", "the pattern 'a?c' is not understood"),
        ("user a ~*a*", "the pattern '*a*' is not understood"),
        ("user a %X~a", "'%X~a' is not understood"),
        ("user a %a", "'%a' is not understood"),
        ("user a (+get ~a)", "selectors, which stand in parentheses, are not supported"),
        ("user ä on", "the name of a user must be"),
    ] {
        let problem = problem(text);
        assert!(problem.contains(expected), "{text}: {problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
    }
    assert!(Users::parse(b"user a \xff").is_err());
    let long = format!("user a >{}", "x".repeat(MAX_PASSWORD_BYTES + 1));
    assert!(problem(&long).contains("a password has more than 1024 bytes"));
    let many: String = (0..=MAX_PASSWORDS).map(|number| format!(" >{number}")).collect::<Vec<_>>().concat();
    assert!(problem(&format!("user a{many}")).contains("more than 64 passwords"));
    let many: String = (0..5000).map(|number| format!("user u{number}\n")).collect::<Vec<_>>().concat();
    assert!(problem(&many).contains("more than 4096 users"));
    assert!(problem(&"#\n".repeat(1 << 20)).contains("more than 1048576 bytes"));
}

#[test]
fn nothing_prints_a_password() {
    let users = users(&format!("user app on >hunter2 {SECRET} ~* +@all"));
    let login = users.log_in(b"app", b"hunter2").expect("it is the password");
    let printed = format!("{users:?} {login:?}");
    let hash = PasswordHash::of(b"hunter2").to_hex();
    assert!(
        !printed.contains("hunter2") && !printed.contains(&hash) && !printed.contains("2bb80d"),
        "{printed}"
    );
}

#[test]
fn a_client_stays_logged_in_as_long_as_its_user_and_its_password_are_there() {
    let before = users("user app on >old ~* +@all\nuser other on nopass ~* +@all");
    let app = before.log_in(b"app", b"old").expect("it is the password");
    let still = |text: &str| users(text).renew(&app);
    let rights = still("user app on >new >old ~* +get").expect("the old password is still one");
    assert_eq!(rights.user.commands_in_words(), "-@all +get", "with the new rights");
    assert!(still("user app on >new ~* +@all").is_none(), "its password was withdrawn");
    assert!(still("user app off >old ~* +@all").is_none());
    assert!(still("user other on nopass").is_none());
    let other = before.log_in(b"other", b"").expect("it needs none");
    let now = users("user other on >secret ~* +@all");
    assert!(now.renew(&other).is_none(), "it has proved nothing");
}

#[test]
fn files_that_were_read_mean_the_same_when_they_are_written() {
    for text in [
        "user a on >x nopass ~* %R~b* ~c %W~* +@all -get -@dangerous +client|list",
        "user default on nopass\nuser b reset on #0000000000000000000000000000000000000000000000000000000000000000",
        "user a +get -get +get -@all +@read -get",
        "nonsense",
    ] {
        fuzz(text.as_bytes());
    }
}
