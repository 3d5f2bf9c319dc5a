//! What does the file of `--config` say? Its keys are the long options; the command line beats the environment, and that
//! beats the file.

use std::{ffi::OsString, fs, path::Path};

use clap::{
    Arg, ArgAction, ArgMatches, Command,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};
use toml::{Table, Value};

/// The arguments of the command line, followed by what only the file says. The error says what is wrong with the file.
pub(crate) fn arguments(command: &Command, arguments: Vec<OsString>) -> Result<Vec<OsString>, String> {
    // What is wrong with it otherwise is said when it is read in earnest.
    let Ok(given) = command.clone().ignore_errors(true).try_get_matches_from(&arguments) else { return Ok(arguments) };
    let Some(file) = given.get_one::<String>("config") else { return Ok(arguments) };
    let text = fs::read_to_string(file).map_err(|error| format!("cannot read the options from {file} ({error})"))?;
    let table: Table = text.parse().map_err(|error| format!("{file} is not TOML: {error}"))?;
    let said = read(command, &given, Path::new(file), table)?;
    Ok(arguments.into_iter().chain(said).collect())
}

fn read(command: &Command, given: &ArgMatches, file: &Path, table: Table) -> Result<Vec<OsString>, String> {
    let mut said = Vec::new();
    for (key, value) in table {
        let wrong = |why: &str| format!("{}: {key}: {why}", file.display());
        let option = command.get_arguments().find(|option| option.get_long() == Some(&key));
        let Some(option) = option.filter(|_| !["config", "help", "version"].contains(&key.as_str())) else {
            return Err(wrong("there is no such option; the keys are those of --help without the dashes"));
        };
        let values = match value {
            Value::Array(values) if matches!(option.get_action(), ArgAction::Append) => values,
            value => vec![value],
        };
        for value in values {
            let argument = match (value, option.get_action()) {
                (Value::Boolean(on), ArgAction::SetTrue) => on.then(|| format!("--{key}")),
                (Value::String(text), ArgAction::Set | ArgAction::Append) => Some(format!("--{key}={text}")),
                (Value::Integer(number), ArgAction::Set | ArgAction::Append) => Some(format!("--{key}={number}")),
                (_, ArgAction::SetTrue) => return Err(wrong("write true or false")),
                (_, ArgAction::Append) => {
                    return Err(wrong("write a text in quotes, or a list of them: [\"..\", \"..\"]"));
                }
                _ => return Err(wrong("write a text in quotes, or a whole number")),
            };
            if let Some(argument) = argument.filter(|_| !is_decided(command, given, option)) {
                if let Some(why) = refused(command, &key, &argument) {
                    return Err(wrong(&why));
                }
                said.push(argument.into());
            }
        }
    }
    Ok(said)
}

/// What is wrong with the value of an option, by itself.
fn refused(command: &Command, key: &str, argument: &str) -> Option<String> {
    let error = command.clone().try_get_matches_from([command.get_name(), argument]).err()?;
    // That others are missing, or what the environment says, is not the file's: it is told when all is read.
    let wrong = matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue);
    let named = format!("--{key}");
    let is_this = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(option)) => option.split(' ').next() == Some(named.as_str()),
        _ => false,
    };
    // The first paragraph: what follows is how the command line is used.
    let text = error.to_string();
    let said = text.split("\n\n").next().unwrap_or_default();
    (wrong && is_this).then(|| said.trim_start_matches("error: ").to_owned())
}

/// Whether the command line or the environment says this, or what excludes it.
fn is_decided(command: &Command, given: &ArgMatches, option: &Arg) -> bool {
    let is_given =
        |id: &str| matches!(given.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable));
    let id = option.get_id().as_str();
    // One of a group that takes one only. (clap asks for a group that may be changed.)
    let groups = command.get_groups().filter(|group| !(*group).clone().is_multiple());
    let members = groups.map(|group| group.get_args().map(clap::Id::as_str).collect::<Vec<_>>());
    let grouped = members.filter(|members| members.contains(&id)).flatten();
    // A conflict is written at either of the two.
    let excluded = command.get_arg_conflicts_with(option).into_iter();
    let excluding = command
        .get_arguments()
        .filter(|other| command.get_arg_conflicts_with(other).iter().any(|excluded| excluded.get_id().as_str() == id));
    let others = excluded.chain(excluding).map(|other| other.get_id().as_str());
    is_given(id) || grouped.chain(others).any(is_given)
}

#[cfg(test)]
mod tests {
    use clap::{ArgGroup, CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    #[command(group = ArgGroup::new("secrets").args(["secret", "secret_file"]))]
    struct Options {
        #[arg(long)]
        #[allow(dead_code, reason = "what is read of it is its name")]
        config: Option<String>,
        #[arg(long, default_value_t = 1)]
        number: u32,
        #[arg(long, value_delimiter = ',')]
        url: Vec<String>,
        #[arg(long)]
        off: bool,
        #[arg(long, conflicts_with = "off")]
        at: Option<String>,
        #[arg(long)]
        secret: Option<String>,
        #[arg(long)]
        secret_file: Option<String>,
        #[arg(long, requires = "secrets")]
        turn: Option<String>,
    }

    /// What comes of these arguments with this file.
    fn options(line: &[&str], file: &str) -> Result<Options, String> {
        let command = Options::command();
        let line: Vec<OsString> = ["x"].iter().chain(line).map(OsString::from).collect();
        let given = command.clone().ignore_errors(true).try_get_matches_from(&line).unwrap();
        let said = read(&command, &given, Path::new("f.toml"), file.parse().unwrap())?;
        Options::try_parse_from(line.into_iter().chain(said)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_file_says_what_the_command_line_does_not() {
        let file = "number = 7\nurl = [\"a\", \"-b\"]\noff = true\nturn = \"t\"\nsecret = \"s\"";
        let read = options(&[], file).unwrap();
        assert_eq!((read.number, read.off, read.url), (7, true, vec!["a".to_owned(), "-b".to_owned()]));
        assert_eq!((read.turn.as_deref(), read.secret.as_deref()), (Some("t"), Some("s")));
        let read = options(&["--number", "9", "--url", "c"], file).unwrap();
        assert_eq!((read.number, read.url), (9, vec!["c".to_owned()]), "in place of the file's, not on top");
        assert!(!options(&[], "off = false").unwrap().off);
    }

    #[test]
    fn what_excludes_what_the_file_says_beats_it() {
        let read = options(&["--at", "here"], "off = true").unwrap();
        assert!(!read.off && read.at.is_some());
        let read = options(&["--off"], "at = \"here\"").unwrap();
        assert!(read.off && read.at.is_none());
        let read = options(&["--secret-file", "f", "--turn", "t"], "secret = \"s\"").unwrap();
        assert!(read.secret.is_none() && read.secret_file.is_some());
        // What is wanted on the command line may be in the file.
        assert!(options(&["--turn", "t"], "secret = \"s\"").is_ok() && options(&["--turn", "t"], "").is_err());
    }

    #[test]
    fn what_is_wrong_in_the_file_is_named() {
        for (file, what) in [
            ("numbr = 7", "numbr"),
            ("config = \"other.toml\"", "config"),
            ("[limits]\nnumber = 7", "limits"),
            ("off = 1", "off: write true or false"),
            ("number = 1.5", "number: write"),
            ("number = [1]", "number: write"),
            ("url = [1.5]", "url: write"),
            ("number = \"x\"", "f.toml: number: invalid value 'x' for '--number"),
            ("off = true\nnumber = -1", "f.toml: number: "),
        ] {
            let error = options(&[], file).err().unwrap_or_else(|| panic!("{file} was taken"));
            assert!(error.contains(what), "{file}: {error}");
        }
    }
}
