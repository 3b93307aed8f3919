"""The studio: a local web app over results and policies. The only package that imports FastAPI and uvicorn.

`moderate studio` starts it (`server`). Pages are in `pages`, styles and scripts in `static`; what comes from npm is in
`static/vendor`, built by `web/build.sh`.
"""
