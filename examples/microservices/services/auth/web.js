// Serves pages that are functions: "METHOD /path" -> async (body, request) -> value or [status, value].
"use strict";
const http = require("http");

const PORT = 8080;
const RETRY_MS = 500;

exports.serve = (pages) => {
  const server = http.createServer(async (request, response) => {
    const [status, value] = await answer(pages, request);
    response.writeHead(status, { "Content-Type": "application/json" });
    response.end(`${JSON.stringify(value)}\n`);
  });
  server.listen(PORT, () => console.log(`listening on ${PORT}`));
  process.on("SIGTERM", () => process.exit(0));
};

async function answer(pages, request) {
  const page = pages[`${request.method} ${request.url}`];
  if (!page) return [404, { error: "no such page" }];
  try {
    let text = "";
    for await (const part of request) text += part;
    const found = await page(text ? JSON.parse(text) : {}, request);
    return Array.isArray(found) && Number.isInteger(found[0]) ? found : [200, found];
  } catch (error) {
    return [503, { error: error.message }];
  }
}

// Repeats until it succeeds: what it connects to may start later.
exports.eventually = async (what, work) => {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      console.error(`${what}: ${error.message}`);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
};
