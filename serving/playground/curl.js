// A request as a command line for a POSIX shell.

/** A word that a POSIX shell reads as this text. */
export function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

/** curl's way to name a file in a form: its own marks in the name are quoted for it. */
function formFile(part, name) {
  const path = name === "-" ? "./-" : name;
  const plain = !/[;,"\\]|^\s|\s$/.test(path);
  return `${part}=@${plain ? path : `"${path.replace(/[\\"]/g, String.raw`\$&`)}"`}`;
}

/** The command that sends a file as a form's part, or a JSON body. The key itself is never shown. */
export function curlText({ url, part, fileName, body, withKey }) {
  const words = ["curl"];
  if (withKey) words.push('-H "Authorization: Bearer $KEY"');
  if (body) words.push("-H 'Content-Type: application/json'", `-d ${quoted(body)}`, quoted(url));
  else words.push(`-F ${quoted(formFile(part, fileName))}`, quoted(url));
  return words.join(" ");
}
