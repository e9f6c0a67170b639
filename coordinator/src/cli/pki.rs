//! `jradievo pki` and `jradievo token`: a private authority for people without one.

use super::{Failure, exit, say, tell};
use clap::{Args, Subcommand, ValueEnum};
use common::time::Millis;
use secure::authority::{Authority, MAX_LIFE, Subject};
use secure::files::certificates;
use secure::identity::{fitted_name, trusted_hosts};
use secure::{Identity, Role};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const DAY: u64 = 86_400;

/// What can be done with an authority.
#[derive(Debug, Subcommand)]
pub(super) enum Pki {
    /// Makes an authority, the certificate of a coordinator, and one of an operator
    Init(Init),
    /// Makes a key and a certificate for a worker, an operator or another coordinator
    Issue(Issue),
    /// Takes back the certificates of a node or person; a running coordinator heeds it at once
    Revoke(Revoke),
    /// Lists what was issued, and what of it was taken back
    List(List),
    /// Shows whose a certificate is and until when it holds
    Show(Show),
}

#[derive(Debug, Args)]
pub(super) struct Init {
    /// Folder of the authority: new, or empty. Whoever can read it can let in anybody
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Name or address under which workers reach the coordinator (repeatable); localhost, 127.0.0.1 and ::1 are added
    #[arg(long = "host", value_name = "NAME", required = true)]
    hosts: Vec<String>,
    /// How long the coordinator's and the operator's certificates hold
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = days())]
    days: u64,
}

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Whose {
    /// Evaluates: may hand in results, and see nothing of others
    Worker,
    /// Looks at runs and changes them
    Operator,
    /// Serves runs
    Coordinator,
}

#[derive(Debug, Args)]
pub(super) struct Issue {
    /// The authority's folder
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// What its holder may do
    #[arg(long, value_enum)]
    role: Whose,
    /// The holder's name: letters, digits, dots, dashes, underscores
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Name or address under which a coordinator is reached (repeatable); only for --role coordinator
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// How long it holds
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = days())]
    days: u64,
    /// Folder for ca.pem, cert.pem and key.pem [default: DIR/issued/ROLE-NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Make a new key and certificate in place of those in the folder
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// The authority's folder
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// A name, for all its certificates, or a serial number as `pki list` prints it
    #[arg(value_name = "NAME")]
    which: String,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// The authority's folder
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// A file of certificates
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// `jradievo token`.
#[derive(Debug, Args)]
pub(super) struct Token {
    /// The authority's folder, the one that the coordinator has as --pki
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// How long the token can be used, such as 30m, 1h or 2d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time_of_a_token)]
    ttl: Duration,
    /// How many nodes it lets in
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    uses: u32,
    /// Let in only a node of this name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How long the certificate of a node holds; a worker that runs renews it at half of that
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = time)]
    life: Duration,
}

fn days() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=MAX_LIFE.as_secs() / DAY)
}

/// Whoever finds a token later than this finds nothing.
const MAX_TOKEN_DAYS: u64 = 30;

fn time(text: &str) -> Result<Duration, String> {
    time_up_to(text, MAX_LIFE.as_secs() / DAY)
}

fn time_of_a_token(text: &str) -> Result<Duration, String> {
    time_up_to(text, MAX_TOKEN_DAYS)
}

/// A time in words: a number and s, m, h or d.
fn time_up_to(text: &str, days: u64) -> Result<Duration, String> {
    let unit = |c| match c {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3600),
        'd' => Some(DAY),
        _ => None,
    };
    let seconds = text.char_indices().next_back().and_then(|(at, last)| {
        let number: u64 = text[..at].parse().ok()?;
        number.checked_mul(unit(last)?)
    });
    match seconds {
        Some(s) if (1..=days * DAY).contains(&s) => Ok(Duration::from_secs(s)),
        _ => Err(format!("expected a time such as 30m, 1h or 2d, of at most {days} days")),
    }
}

fn failed(e: secure::Error) -> Failure {
    match e {
        secure::Error::Name { .. } => Failure::Usage(e.to_string()),
        other => Failure::Failed(other.to_string()),
    }
}

fn date(time: SystemTime) -> String {
    Millis(secure::unix(time) * 1000).date()
}

/// Runs `jradievo pki`.
pub(super) fn pki(command: Pki) -> Result<u8, Failure> {
    match command {
        Pki::Init(args) => init(&args),
        Pki::Issue(args) => issue(&args),
        Pki::Revoke(args) => revoke(&args),
        Pki::List(args) => list(&args.dir),
        Pki::Show(args) => show(&args.file),
    }
}

fn init(args: &Init) -> Result<u8, Failure> {
    let now = SystemTime::now();
    let authority = Authority::create(&args.dir, now).map_err(failed)?;
    let life = Duration::from_secs(args.days * DAY);
    let hosts = trusted_hosts(&args.hosts);
    let name = fitted_name(&args.hosts[0]);
    let server = Subject { role: Role::Coordinator, name: &name, hosts: &hosts, life };
    let server = authority.issue(&server, &args.dir.join("server"), false, now).map_err(failed)?;
    let operator = Subject { role: Role::Operator, name: "operator", hosts: &[], life };
    authority.issue(&operator, &args.dir.join("operator"), false, now).map_err(failed)?;
    let dir = args.dir.display();
    say(&format!(
        "authority {} in {dir}; keep ca-key.pem to yourself",
        secure::hex(&authority.fingerprint())
    ));
    say(&format!("coordinator {} until {}, for {}", server.name, date(server.not_after), hosts.join(", ")));
    say(&format!("serve with: jradievo start RUN.toml --state STATE --pki {dir} --listen 0.0.0.0:7443"));
    say(&format!("let nodes in with: jradievo token {dir} > token"));
    Ok(exit::DONE)
}

fn issue(args: &Issue) -> Result<u8, Failure> {
    let role = match args.role {
        Whose::Worker => Role::Worker,
        Whose::Operator => Role::Operator,
        Whose::Coordinator => Role::Coordinator,
    };
    if (role == Role::Coordinator) == args.hosts.is_empty() {
        let wrong = "--host is for --role coordinator, which needs one: the name under which it is reached";
        return Err(Failure::Usage(wrong.into()));
    }
    let hosts = if role == Role::Coordinator { trusted_hosts(&args.hosts) } else { Vec::new() };
    let authority = Authority::open(&args.dir).map_err(failed)?;
    let fallback = || args.dir.join("issued").join(format!("{role}-{}", args.name));
    // Before the name is made part of a path.
    secure::identity::checked_name(&args.name).map_err(failed)?;
    let out = args.out.clone().unwrap_or_else(fallback);
    let life = Duration::from_secs(args.days * DAY);
    let subject = Subject { role, name: &args.name, hosts: &hosts, life };
    let identity = authority.issue(&subject, &out, args.replace, SystemTime::now()).map_err(failed)?;
    say(&format!("{role} {} until {}: {}", identity.name, date(identity.not_after), out.display()));
    Ok(exit::DONE)
}

fn revoke(args: &Revoke) -> Result<u8, Failure> {
    let authority = Authority::open(&args.dir).map_err(failed)?;
    let hit = authority.revoke(&args.which, SystemTime::now()).map_err(failed)?;
    if hit.is_empty() {
        let what = format!("{} has no certificate that still holds; see jradievo pki list", args.which);
        return Err(Failure::Absent(what));
    }
    for i in &hit {
        say(&format!("revoked {} {} {}", i.role, i.name, i.serial));
    }
    Ok(exit::DONE)
}

fn list(dir: &Path) -> Result<u8, Failure> {
    let (issued, revoked) = Authority::open(dir).and_then(|a| a.list()).map_err(failed)?;
    let now = secure::unix(SystemTime::now());
    for i in &issued {
        let state = match () {
            () if revoked.iter().any(|r| r.serial == i.serial) => "revoked",
            () if i.not_after <= now => "expired",
            () => "good",
        };
        let until = Millis(i.not_after * 1000).date();
        say(&format!("{}  {state:7}  until {until}  {:11}  {}  ({})", i.serial, i.role, i.name, i.by));
    }
    Ok(exit::DONE)
}

fn show(file: &Path) -> Result<u8, Failure> {
    for certificate in certificates(file).map_err(failed)? {
        let fingerprint = secure::hex(&secure::sha256(&certificate));
        say(&match Identity::of(&certificate) {
            Ok(i) => {
                let (from, until) = (date(i.not_before), date(i.not_after));
                format!(
                    "{} {}, {from} to {until}, serial {}, SHA-256 {fingerprint}",
                    i.role,
                    i.name,
                    i.serial_text()
                )
            }
            Err(e) => format!("SHA-256 {fingerprint}: {e}"),
        });
    }
    Ok(exit::DONE)
}

/// Runs `jradievo token`. The token alone goes to standard output.
pub(super) fn token(args: &Token) -> Result<u8, Failure> {
    let authority = Authority::open(&args.dir).map_err(failed)?;
    let name = args.name.as_deref();
    let token = authority.token(args.ttl, args.uses, args.life, name, SystemTime::now()).map_err(failed)?;
    say(&token.text());
    let nodes = if args.uses == 1 { "one node".into() } else { format!("{} nodes", args.uses) };
    let minutes = args.ttl.as_secs().div_ceil(60);
    tell(&format!("lets {nodes} in within {minutes} min; on the node: --token-file FILE, chmod 600 before"));
    Ok(exit::DONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_or_refused() {
        let seconds = |t| time(t).map(|d| d.as_secs()).ok();
        let read = [("30m", Some(1800)), ("1h", Some(3600)), ("2d", Some(172_800)), ("9s", Some(9))];
        let refused = ["", "h", "0h", "1", "1w", "-1h", "1.5h", "9999d", "99999999999999999999d", "1é"];
        for (text, expected) in read.into_iter().chain(refused.map(|t| (t, None))) {
            assert_eq!(seconds(text), expected, "{text:?}");
        }
    }
}
