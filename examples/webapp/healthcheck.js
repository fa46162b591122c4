"use strict";
const http = require("http");

const url = `http://127.0.0.1:${process.env.PORT || 3000}/health`;
http.get(url, (answer) => process.exit(answer.statusCode === 200 ? 0 : 1))
  .on("error", () => process.exit(1));
