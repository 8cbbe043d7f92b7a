// What the server says of its tasks and models: nothing here knows any of them by name.

// Which model answers: the same for every task, chosen by controls of their own.
const TARGET = new Set(["model", "version", "label"]);

/** Tasks that take a picture, or a text in JSON, out of the OpenAPI document, in its order. */
export function tasksOf(openapi) {
  return Object.entries(openapi.paths ?? {}).flatMap(([path, { post }]) => {
    const written = writtenTask(path, post);
    if (written) return [written];
    const content = post?.requestBody?.content ?? {};
    const mediaTypes = Object.keys(content).filter((type) => type.startsWith("image/"));
    const parts = Object.entries(content["multipart/form-data"]?.schema?.properties ?? {});
    const [part] = parts.find(([, { format }]) => format === "binary") ?? []; // it may take other things too
    const verb = post?.["x-tidegate-task"];
    if (!verb || !part || !mediaTypes.length) return [];
    const parameters = (post.parameters ?? [])
      .filter((one) => one.in === "query" && !TARGET.has(one.name))
      .map((one) => ({ ...one, schema: plain(one.schema ?? {}, openapi) }));
    return [{ verb, path, part, mediaTypes, parameters, summary: post.summary ?? "" }];
  });
}

/** A task whose JSON has one text that must be there and whose route takes nothing else; null for any other. */
function writtenTask(path, post) {
  const verb = post?.["x-tidegate-task"];
  const { "application/json": json, ...others } = post?.requestBody?.content ?? {};
  const properties = json?.schema?.properties ?? {};
  const [name, ...more] = json?.schema?.required ?? [];
  if (!verb || Object.keys(others).length || more.length || properties[name]?.type !== "string") return null;
  const parameters = Object.entries(properties)
    .map(([name, schema]) => ({ name, description: schema.description, schema: plain(schema, {}) }))
    .filter((one) => one.name !== name && !TARGET.has(one.name) && one.schema.type && !one.schema["x-tidegate-fixed"]);
  return { verb, path, text: { name, example: json.example?.[name] }, parameters, summary: post.summary ?? "" };
}

/** A schema without the wrapping of optional and shared types. */
function plain(schema, openapi) {
  const { $ref, anyOf, allOf, ...rest } = schema;
  if ($ref) {
    const found = $ref.split("/").slice(1).reduce((node, name) => node?.[name], openapi);
    return { ...plain(found ?? {}, openapi), ...rest };
  }
  const inner = (anyOf ?? allOf)?.find((one) => one.type !== "null");
  return inner ? { ...plain(inner, openapi), ...rest } : rest;
}

/** Choices of a model for a task: [value, text]. */
export function modelChoices(models, verb) {
  const able = models.filter((model) => model.task === verb);
  if (!able.length) return [];
  const each = able.map(({ name, ready }) => [name, ready ? name : `${name} (not ready)`]);
  return able.length > 1 ? [["", "the default"], ...each] : each;
}

/** Choices of a version of a model: [query, text]. */
export function versionChoices(model) {
  const choices = [["", "as routed"]];
  if (!model) return choices;
  const { stable, canary, versions } = model;
  if (stable != null) choices.push(["label=stable", `stable (${stable})`]);
  if (canary) choices.push(["label=canary", `canary (${canary.version}, ${canary.percent} %)`]);
  return [...choices, ...versions.map((number) => [`version=${number}`, `version ${number}`])];
}
